"""Runs the cells of a benchmark, methods x epsilons x seeds, each in a folder and a process of its
own. After an interruption it continues with the first cell that is not finished.

The function that runs a cell is an argument, so that this module depends on no method.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from dpgen.benchmark.settings import BenchmarkSettings, Cell, Entry
from dpgen.progress import progress_bar
from dpgen.storage.durable import replace_durably
from dpgen.storage.files import read_json

__all__ = ["BenchmarkSettings", "Cell", "Entry", "held", "run"]

Do = Callable[[BenchmarkSettings, Cell, Path], dict[str, Any]]
LOST = "its process was killed, or could write nothing: out of memory, or of disk?"
FIELDS: dict[str, Any] = {  # types of the fields of a cell on disk
    "status": str,
    "error": str | None,
    "privacy": dict | None,
    "metrics": dict,
    "seconds": dict,
    "peak_mib": int | float | None,
    "grid": str | None,
    "shared": str | None,
    "fidelity": dict | None,
}


def run(
    settings: BenchmarkSettings,
    folder: Path,
    do: Do,
    *,
    jobs: int,
    show: bool,
    finished: Callable[[list[dict[str, Any]]], object],
) -> None:
    """Runs the cells that are not finished, ``jobs`` at a time, each in a process of its own.

    A cell that fails, or whose process dies, is recorded with the known reason and does not stop
    the others; the next run tries it again.

    Args:
        settings: the methods, budgets and seeds to compare.
        folder: the folder of the results.
        do: module-level function that runs a cell in its folder and returns its results.
        jobs: number of cells at a time.
        show: whether to show progress bars.
        finished: called with all cells on disk, whenever another one has ended.
    """
    cells = settings.cells()
    todo = [c for c in cells if (read(settings, folder, c) or {}).get("status") != "done"]
    with progress_bar("cells", len(cells), show=show, done=len(cells) - len(todo)) as advance:
        for cell in _ended(settings, folder, do, todo, jobs):
            if read(settings, folder, cell) is None:
                _write(settings, folder, cell, _failure(LOST))
            advance()
            finished(held(settings, folder))


def held(settings: BenchmarkSettings, folder: Path) -> list[dict[str, Any]]:
    """Reads the cells on disk."""
    found = (read(settings, folder, cell) for cell in settings.cells())
    return [cell for cell in found if cell is not None]


def read(settings: BenchmarkSettings, folder: Path, cell: Cell) -> dict[str, Any] | None:
    """Reads a cell from disk; None if it is not there. Raises ValueError if it was made with other
    settings.
    """
    path = folder / "cells" / cell.name / "cell.json"
    if not path.exists():
        return None
    written = read_json(path, finite=False)
    if not isinstance(written, dict) or written.get("identity") != settings.identity(cell):
        raise ValueError(
            f"{path.parent} was made with other settings than the file's: choose another folder, "
            "or remove that cell"
        )
    own = cell._asdict()
    for name, value in written.items():
        if value != own.get(name, value) or not isinstance(value, FIELDS.get(name, object)):
            raise ValueError(f"{path}: {name} is not what a cell holds: remove that cell")
    return dict(written)


def _ended(
    settings: BenchmarkSettings, folder: Path, do: Do, todo: Sequence[Cell], jobs: int
) -> Iterator[Cell]:
    """Yields each cell when its process has ended. A cell that samples another cell's teacher waits
    for that cell.
    """
    context, waiting = get_context("spawn"), list(todo)
    running: dict[Cell, SpawnProcess] = {}
    try:
        while waiting or running:
            unfinished = {*waiting, *running}
            for cell in [c for c in waiting if _awaited(settings, c) not in unfinished]:
                if len(running) == jobs:
                    break
                waiting.remove(cell)
                # The record of an earlier failure must not count for this attempt.
                (folder / "cells" / cell.name / "cell.json").unlink(missing_ok=True)
                running[cell] = context.Process(target=_work, args=(settings, folder, do, cell))
                running[cell].start()
            wait([process.sentinel for process in running.values()])
            for cell in [c for c, process in running.items() if not process.is_alive()]:
                running.pop(cell).join()
                yield cell
    finally:
        for process in running.values():
            process.terminate()
            process.join()


def _awaited(settings: BenchmarkSettings, cell: Cell) -> Cell | None:
    other = settings.entry(cell.label).teacher_of
    return None if other is None else cell._replace(label=other)


def _work(settings: BenchmarkSettings, folder: Path, do: Do, cell: Cell) -> None:
    """Runs a cell in its own process. It ends with its benchmark: an orphan would keep the run
    folder locked.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        outcome = {"status": "done", "error": None, **do(settings, cell, folder)}
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        outcome = _failure(str(error) or type(error).__name__)
    try:
        _write(settings, folder, cell, outcome)
    except OSError as error:
        print(f"failed: {cell.name}: {error}", file=sys.stderr, flush=True)
        raise SystemExit(3) from None


def _end_with_parent() -> None:
    if (parent := parent_process()) is not None:
        wait([parent.sentinel])
        os._exit(1)


def _failure(reason: str) -> dict[str, Any]:
    return {
        "status": "failed", "error": reason, "privacy": None, "metrics": {}, "seconds": {},
        "peak_mib": None, "grid": None,
    }  # fmt: skip


def _write(
    settings: BenchmarkSettings, folder: Path, cell: Cell, outcome: Mapping[str, Any]
) -> None:
    written = {
        "identity": settings.identity(cell),
        **cell._asdict(),
        "shared": settings.entry(cell.label).teacher_of,
        **outcome,
    }
    path = folder / "cells" / cell.name / "cell.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_durably(path, json.dumps(written, indent=1).encode())
