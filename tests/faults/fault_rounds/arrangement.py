"""What is arranged inside a warm command: a witness at the records, and a fault at an operation.

Keys are fixed and a state is saved after every step, so that what a killed training ends in can be
compared with what an undisturbed one does.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIXED_KEY = b"k" * 32
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_REMOVALS = ("os.remove", "os.rmdir", "shutil.rmtree")
_CHANGES = (*_REMOVALS, "os.rename", "os.mkdir", "os.link", "os.truncate", "os.chmod")


@dataclass(frozen=True)
class Arranged:
    """What is arranged inside a warm command before it begins.

    Args:
        touches: file that gets a line when the first record is read, and whether it was paid for.
        out: folder that the command makes: the runs in it are those that must have paid.
        under: file operations below this folder are counted, those that change it.
        counted: file that gets a line for each operation of the whole command: the path that it
            changes.
        at: the operation, from 0, at which the fault happens; ``None``: never.
        fault: "kill", "full" (no space from there on) or "readonly" (from there on).
        lazily: pictures are read from disk every time, as from a set beyond a GiB.
    """

    touches: Path
    out: Path
    under: Path
    counted: Path
    at: int | None = None
    fault: str = "kill"
    lazily: bool = False


def arrange(arranged: Arranged) -> list[str]:
    """Fixed keys, a state after every step, a witness at the records, and the fault; returns the
    list that gets the path of every operation.
    """
    import multiprocessing

    from dpgen.benchmark import schedule as benchmark
    from dpgen.data import slots, sources
    from dpgen.privacy.lineage import keys
    from dpgen.runs.checkpoint import Checkpoints

    keys.new_key = lambda: FIXED_KEY
    Checkpoints.due = lambda states: True  # type: ignore[method-assign]
    # A cell is a process of its own either way; a spawned one would import and price all again.
    benchmark.get_context = lambda _: multiprocessing.get_context("fork")  # type: ignore
    if arranged.lazily:
        sources.CACHE_BYTES = 0
    _watch(slots.RecordSlots, arranged)
    done: list[str] = []
    under = str(arranged.under) + os.sep

    def hook(event: str, values: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = values
            writes = (flags & _WRITES) if mode is None else any(c in mode for c in "wax+")
            if not writes:
                return
        elif event in _CHANGES:
            path = values[0]
            if event in _REMOVALS and values[-1] not in (None, -1):  # named within an open folder
                path = os.path.join(os.readlink(f"/proc/self/fd/{values[-1]}"), path)
        else:
            return
        if not isinstance(path, str | os.PathLike) or not os.fspath(path).startswith(under):
            return
        number = len(done)
        done.append(os.fspath(path).removeprefix(under))
        if arranged.at is None or number < arranged.at:
            return
        if arranged.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        code = errno.ENOSPC if arranged.fault == "full" else errno.EROFS
        # Without space, what is there can still be renamed and removed.
        if arranged.fault == "readonly" or event in ("open", "os.mkdir"):
            raise OSError(code, os.strerror(code), str(path))

    sys.addaudithook(hook)
    return done


def _watch(records: Any, arranged: Arranged) -> None:  # noqa: ANN401
    """Notes the first touch of records, and whether the charge of its run was on disk by then."""
    read, seen = records.read, []

    def watched(self: Any, slots: Any) -> Any:  # noqa: ANN401
        if not seen:
            seen.append(True)
            paths = (Path(os.environ["DPGEN_HOME"]) / "ledgers").glob("*.jsonl")
            rows = [json.loads(row) for p in paths for row in p.read_text().split("\n")[:-1]]
            charged = {row["run"] for row in rows if row["kind"] == "charge"}
            states = [p for p in arranged.out.rglob("run.json") if p.parent.name == "checkpoint"]
            begun = {json.loads(path.read_text())["id"] for path in states}
            with contextlib.suppress(OSError), arranged.touches.open("a") as file:
                file.write("paid\n" if begun and begun <= charged else "UNPAID\n")
        return read(self, slots)

    records.read = watched
