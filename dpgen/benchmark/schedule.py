"""Runs the cells of a benchmark, methods x epsilons x seeds, each in a folder and a process of its
own. After an interruption it continues with the first cell that is not finished. Several machines
may run one benchmark in one folder: each takes the cells that nobody has taken.

The function that runs a cell is an argument, so that this module depends on no method.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from dpgen.benchmark.claims import Claims, overtaken
from dpgen.benchmark.settings import BenchmarkSettings, Cell, Entry
from dpgen.progress import progress_bar
from dpgen.storage.durable import replace_durably
from dpgen.storage.files import read_json

__all__ = ["BenchmarkSettings", "Cell", "Entry", "held", "run"]

PARTIAL = ".*.[0-9]*.partial"  # files that a killed process was writing
POLL = 1.0  # seconds after which cells that others hold are looked at again
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
    the others; the next run tries it again. A cell that another process holds is waited for, and
    taken over if that process ends without it.

    Args:
        settings: the methods, budgets and seeds to compare.
        folder: the folder of the results, in which other machines may be at work.
        do: module-level function that runs a cell in its folder and returns its results.
        jobs: number of cells at a time.
        show: whether to show progress bars.
        finished: called with all cells on disk, whenever another one has ended.
    """
    cells = settings.cells()
    todo = [c for c in cells if (read(settings, folder, c) or {}).get("status") != "done"]
    done = len(cells) - len(todo)
    with Claims() as claims, progress_bar("cells", len(cells), show=show, done=done) as advance:
        for _ in _ended(settings, folder, do, todo, jobs, claims, show):
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
    path = place_of(folder, cell) / "cell.json"
    try:
        written = read_json(path, finite=False)
    except FileNotFoundError:
        return None
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


def place_of(folder: Path, cell: Cell) -> Path:
    """Returns the folder of a cell."""
    return folder / "cells" / cell.name


def _ended(
    settings: BenchmarkSettings, folder: Path, do: Do, todo: Sequence[Cell], jobs: int,
    claims: Claims, show: bool,
) -> Iterator[Cell]:  # fmt: skip
    """Yields each cell when it has ended, here or elsewhere. A cell that samples another cell's
    teacher waits for that cell.
    """
    context, waiting = get_context("spawn"), list(todo)
    failed = {cell: _attempt(folder, cell) for cell in todo}
    running: dict[Cell, tuple[SpawnProcess, int]] = {}
    try:
        while waiting or running:
            unfinished, elsewhere = {*waiting, *running}, False
            for cell in [c for c in waiting if _awaited(settings, c) not in unfinished]:
                if len(running) == jobs:
                    break
                number = claims.take(place_of(folder, cell))
                if number is None:
                    elsewhere = True
                    continue
                waiting.remove(cell)
                if _attempt(folder, cell) not in (None, failed[cell]):  # by another machine, since
                    claims.release(place_of(folder, cell))
                    yield cell
                    continue
                _clear(place_of(folder, cell))
                process = context.Process(target=_work, args=(settings, folder, do, cell, number))
                running[cell] = process, number
                process.start()
            if running:
                wait([p.sentinel for p, _ in running.values()], POLL if elsewhere else None)
            elif elsewhere:
                if show:
                    show = False  # once
                    print("the cells that are left are held by other processes", file=sys.stderr)
                time.sleep(POLL)
            for cell in [c for c, (process, _) in running.items() if not process.is_alive()]:
                process, number = running.pop(cell)
                process.join()
                place = place_of(folder, cell)
                if read(settings, folder, cell) is None and not overtaken(place, number):
                    _write(settings, folder, cell, _failure(LOST))
                claims.release(place)
                yield cell
    finally:
        for process, _ in running.values():
            process.terminate()
            process.join()


def _attempt(folder: Path, cell: Cell) -> tuple[int, int] | None:
    """Returns what tells the results of one attempt at a cell from those of another; None where
    there are none.
    """
    try:
        found = (place_of(folder, cell) / "cell.json").stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _clear(place: Path) -> None:
    """Deletes what an earlier attempt left: its failure must not count for this one."""
    (place / "cell.json").unlink(missing_ok=True)
    for partial in place.rglob(PARTIAL):
        partial.unlink(missing_ok=True)


def _awaited(settings: BenchmarkSettings, cell: Cell) -> Cell | None:
    other = settings.entry(cell.label).teacher_of
    return None if other is None else cell._replace(label=other)


def _work(
    settings: BenchmarkSettings, folder: Path, do: Do, cell: Cell, number: int
) -> None:
    """Runs a cell in its own process. It ends with its benchmark: an orphan would keep the run
    folder locked.

    Args:
        number: number of the claim under which the cell is run.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        outcome = {"status": "done", "error": None, **do(settings, cell, folder)}
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        outcome = _failure(str(error) or type(error).__name__)
    try:
        if not overtaken(place_of(folder, cell), number):
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
    path = place_of(folder, cell) / "cell.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_durably(path, json.dumps(written, indent=1).encode())
