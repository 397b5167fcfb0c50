"""Progress of long loops on standard error: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

FIRST_SECONDS = 30.0  # before the first line of a loop in a log, and between two at first
LAST_SECONDS = 600.0  # between two at most
GROWTH = 0.05  # a line each time a loop is this share older: some 200 lines a day
WORTH_SECONDS = 2.0  # a loop that ends before leaves no line


@contextmanager
def progress_bar(
    label: str, total: int, *, show: bool, done: int = 0
) -> Iterator[Callable[[], None]]:
    """Yields a function to call once per unit of work.

    On a terminal, and in a notebook, a bar moves. Anywhere else, as in a log file, plain lines say
    how far the loop is: the first after 30 s, then ever more seldom, up to ten minutes apart, and
    one when it has ended, unless that was at once. What cannot be written is left out: no loop
    fails because its log does.

    It shows counts that are public constants of the configuration, nothing from records.

    Args:
        label: what is counted.
        total: units of work in all.
        show: ``False`` shows nothing.
        done: units that were done before, in a run that was resumed.
    """
    if not show:
        yield lambda: None
        return
    # The stream of this moment: what others redirect later, to look at it, is theirs alone.
    stream = sys.stderr
    console = Console(file=stream)
    if (stream.isatty() and not console.is_dumb_terminal) or console.is_jupyter:
        columns = (
            TextColumn("{task.description:<24}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bars:
            task = bars.add_task(label, total=total, completed=done)
            yield lambda: bars.advance(task)
        return
    with _lines(label, total, done, stream) as advance:
        yield advance


@contextmanager
def _lines(
    label: str, total: int, done: int, stream: TextIO
) -> Iterator[Callable[[], None]]:
    """Writes lines now and then from a thread of its own: one unit of work may take an hour."""
    count, start, ended = done, time.monotonic(), threading.Event()

    def advance() -> None:
        nonlocal count
        count += 1

    def report() -> None:
        wait = FIRST_SECONDS
        while not ended.wait(wait):
            elapsed = time.monotonic() - start
            _say(f"{label}: {_state(count, total, count - done, elapsed)}", stream)
            wait = _wait(elapsed)

    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        yield advance
    finally:
        ended.set()
        reporter.join()
    elapsed = time.monotonic() - start
    if elapsed >= WORTH_SECONDS:
        _say(f"{label}: {count} of {total}, took {_clock(elapsed)}", stream)


def _wait(elapsed: float) -> float:
    """Returns the seconds until the next line of a loop that is ``elapsed`` seconds old."""
    return min(max(FIRST_SECONDS, GROWTH * elapsed), LAST_SECONDS)


def _state(count: int, total: int, new: int, elapsed: float) -> str:
    """Says how far a loop is.

    Args:
        count: units that are done, of them ``new`` since it began ``elapsed`` seconds ago.
        total: units in all.
    """
    state = f"{count} of {total}"
    if total > 1:
        state += f" ({100 * count // total} %)"
    state += f" after {_clock(elapsed)}"
    left = total - count
    return f"{state}, about {_clock(elapsed * left / new)} left" if new and left > 0 else state


def _clock(seconds: float) -> str:
    minutes, whole = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02}"


def _say(line: str, stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError):  # a full disk, a closed stream
        print(line, file=stream, flush=True)
