"""The folder of one training run while it runs: its identity, its keys, its checkpoints.

All of it lies under ``RUN/checkpoint`` (mode 0700) and goes when the run is finished. Until then
the folder is a secret, and so is every copy of it: keys lie there beside noisy answers. A copy that
comes second is not answered (`dpgen.privacy.lineage.descent`).
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
        configuration: the resolved settings; a run begun under other ones is refused.
        read: brings a configuration that an earlier version wrote to what this one writes.
    """

    def __init__(
        self,
        path: Path,
        configuration: Mapping[str, Any],
        read: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    ) -> None:
        self.path, self._private = path, path / "checkpoint"
        if (path.exists() or path.is_symlink()) and not path.is_dir():
            raise ValueError(f"the run folder must be a folder, {path} is none")
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
        # Between those looks and the lock its last holder may have come to its end.
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
        """The seed that the run in ``path`` was begun with, finished or not; None without a run."""
        state, finished = path / "checkpoint" / "run.json", path / "config.json"
        if not (state.exists() or finished.exists()):
            return None
        held = read_json(finished) if finished.exists() else _read_state(state)["configuration"]
        if not isinstance(held, dict) or type(held.get("seed")) is not int:
            raise ValueError(f"the run folder {path} holds no seed: choose another folder")
        return int(held["seed"])

    @staticmethod
    def id_of(path: Path) -> str | None:
        """The id of the unfinished run in ``path``; None without one."""
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
            with contextlib.suppress(FileNotFoundError):  # another training sweeps it, too
                shutil.rmtree(self._private)

    def close(self) -> None:
        """Lets another training have the folder; once is enough."""
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1


def _unbegun(path: Path) -> bool:
    """Returns whether a folder is empty, or holds only what a run makes before it has an identity:
    nothing was charged then.
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
    """Reads the id and the configuration that a run was begun with."""
    held = read_json(path)
    if isinstance(held, dict) and held.get("schema") == UNMARKED_SCHEMA:
        raise ValueError(f"{path.parent.parent}: {UNMARKED}")
    known = isinstance(held, dict) and held.get("schema") == RUN_SCHEMA
    if not known or type(held.get("id")) is not str or type(held.get("configuration")) is not dict:
        raise ValueError(f"{path} must be what {RUN_SCHEMA} wrote: choose another run folder")
    return dict(held)


def sweep(path: Path) -> None:
    """Deletes what a kill at the very end of a run left beside its released files."""
    shutil.rmtree(path / "checkpoint", ignore_errors=True)
