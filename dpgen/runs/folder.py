"""The folder of one training run while it runs: its identity, its keys, its checkpoints.

All of it lies under ``RUN/checkpoint`` (mode 0700) and is deleted when the run is finished. Until
then the folder is a secret, and so is every copy of it: keys lie there beside noisy answers. A copy
that another one has overtaken gets no answers (`dpgen.privacy.lineage.descent`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.lineage.memory import UNMARKED
from dpgen.privacy.mechanisms.question import differences
from dpgen.privacy.statements.certificate import CERTIFICATE, NOTICE
from dpgen.privacy.statements.outside import check_outside
from dpgen.runs.checkpoint import Checkpoints
from dpgen.storage.canonical import canonical
from dpgen.storage.durable import replace_durably, still_named
from dpgen.storage.files import read_json

RUN_SCHEMA = "dpgen-run/2"
UNMARKED_SCHEMA = "dpgen-run/1"


class RunFolder:
    """An unfinished run.

    Args:
        path: the run folder. It must be absent, empty, or an unfinished run of the same
            configuration.
        configuration: the resolved settings; a run that was begun with others is refused.
        read: converts a configuration of an earlier version to the present form.
    """

    def __init__(
        self,
        path: Path,
        configuration: Mapping[str, Any],
        read: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    ) -> None:
        self.path, self._private = path, path / "checkpoint"
        if (path.exists() or path.is_symlink()) and not path.is_dir():
            raise ValueError(f"the run folder must be a folder, {path} is not one")
        for inner in (self._private, *(self._private / name for name in ("lock", "keys", "state"))):
            if inner.is_symlink():
                raise ValueError(
                    f"the run folder {path} must hold no links, {inner.name} is one: choose "
                    "another folder"
                )
        state = self._private / "run.json"
        if path.exists() and not (_unbegun(path) or state.exists()):
            raise ValueError(
                f"the run folder must be empty or an unfinished run, {path} is neither: "
                "choose another folder"
            )
        if not state.exists():
            check_outside(path, "the run folder")
        self._private.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.chmod(self._private, 0o700)
        self._lock = os.open(self._private / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise ValueError(
                f"the run folder {path} is in use by another training: wait for it, "
                "or choose another folder"
            ) from None
        # Between those checks and the lock its last holder may have finished.
        finished = any((path / name).exists() for name in (CERTIFICATE, NOTICE))
        if finished or not still_named(self._private / "lock", self._lock):
            os.close(self._lock)
            if finished:
                sweep(path)
            raise ValueError(
                f"another training ended in the run folder {path} just now: "
                "run the same command again to see what it left"
            )
        self.fresh = not state.exists()
        if self.fresh:
            fresh = {
                "schema": RUN_SCHEMA,
                "id": secrets.token_hex(16),
                "configuration": dict(configuration),
            }
            replace_durably(state, canonical(fresh).encode(), mode=0o600)
        try:
            held = _read_state(state)
        except ValueError:
            os.close(self._lock)
            raise
        begun = read(held["configuration"])
        if begun != dict(configuration):
            os.close(self._lock)
            words = list(differences(begun, dict(configuration)))
            raise ValueError(
                f"the run folder {path} holds an unfinished run of another configuration: "
                f"{'; '.join(words[:3])}{', and more' * (len(words) > 3)}. "
                "Resume it as it was begun, or choose another folder"
            )
        self.id: str = held["id"]
        self.keys = StageKeys(self._private / "keys")
        self.checkpoints = Checkpoints(self._private / "state")

    @staticmethod
    def seed_of(path: Path) -> int | None:
        """Reads the seed with which the run in ``path`` was begun, finished or not; None if there
        is no run.
        """
        state, finished = path / "checkpoint" / "run.json", path / "config.json"
        if not (state.exists() or finished.exists()):
            return None
        held = read_json(finished) if finished.exists() else _read_state(state)["configuration"]
        if not isinstance(held, dict) or type(held.get("seed")) is not int:
            raise ValueError(f"the run folder {path} holds no seed: choose another folder")
        return int(held["seed"])

    @staticmethod
    def id_of(path: Path) -> str | None:
        """Reads the id of the unfinished run in ``path``; None if there is none."""
        state = path / "checkpoint" / "run.json"
        return str(_read_state(state)["id"]) if state.exists() else None

    def discard(self) -> None:
        """Undoes a run that was refused before it began."""
        self.finish()
        self.close()
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def finish(self) -> None:
        """Deletes keys and checkpoints: the released files are in place."""
        while self._private.exists():
            with contextlib.suppress(FileNotFoundError):  # another training may delete it, too
                shutil.rmtree(self._private)

    def close(self) -> None:
        """Releases the lock of the folder, so that another training can use it."""
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1


def _unbegun(path: Path) -> bool:
    """Returns whether a folder is empty, or holds only the files that a run makes before it has an
    identity, so that nothing was charged.
    """
    private = path / "checkpoint"
    if any(entry != private for entry in path.iterdir()):
        return False
    if not private.exists():
        return True
    return private.is_dir() and all(
        entry.name == "lock" or entry.match(".run.json.*.partial") for entry in private.iterdir()
    )


def _read_state(path: Path) -> dict[str, Any]:
    """Reads the id and the configuration with which a run was begun."""
    held = read_json(path)
    if isinstance(held, dict) and held.get("schema") == UNMARKED_SCHEMA:
        raise ValueError(f"{path.parent.parent}: {UNMARKED}")
    known = isinstance(held, dict) and held.get("schema") == RUN_SCHEMA
    if not known or type(held.get("id")) is not str or type(held.get("configuration")) is not dict:
        raise ValueError(f"{path} must be what {RUN_SCHEMA} wrote: choose another run folder")
    return dict(held)


def sweep(path: Path) -> None:
    """Deletes the private files that a kill at the very end of a run left beside its released ones.
    """
    shutil.rmtree(path / "checkpoint", ignore_errors=True)
