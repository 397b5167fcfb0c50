"""What a reader does, measured in a process of its own that may not have much."""

from __future__ import annotations

import json
import os
import resource
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

MIB = 2**20
SECONDS = 20.0  # of processor time, that of a busy machine


class Outcome(NamedTuple):
    """What became of a call.

    error: the name of its exception's class, "" without one.
    refused: whether it was a ValueError.
    message: of the exception.
    n_bytes: by how much the most memory it held exceeded what it began with.
    """

    error: str
    refused: bool
    message: str
    n_bytes: int


def in_child(action: Callable[[], object], memory: int = 300 * MIB) -> Outcome:
    """Calls ``action`` in a forked process whose memory may grow by ``memory`` bytes.

    A process that is killed, also by its limit of processor time, is an AssertionError.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _limit(memory)
        before = _pages(1)
        try:
            action()
            error, refused, message = "", False, ""
        except BaseException as caught:
            error, refused = type(caught).__name__, isinstance(caught, ValueError)
            message = str(caught) if refused else traceback.format_exc()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        answer = json.dumps((error, refused, message[-2000:], peak - before)).encode()
        os.write(writer, answer)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the reader was ended by a signal or hung ({status})"
    return Outcome(*json.loads(answer))


def _limit(memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_pages(0) + memory, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CPU, (int(SECONDS), int(SECONDS) + 1))
    signal.setitimer(signal.ITIMER_REAL, 6 * SECONDS)  # of waiting


def _pages(column: int) -> int:
    """Bytes of this process: column 0 is all its addresses, column 1 what lies in memory."""
    return int(Path("/proc/self/statm").read_text().split()[column]) * os.sysconf("SC_PAGE_SIZE")
