"""Describes in a line the time and memory that a run would take."""

from __future__ import annotations

from dpgen.runs.context import Rehearsal
from dpgen.runs.machine import load

GIB = 2**30
BUSY = 0.75  # load per processor above which a machine is called busy


def estimate(rehearsal: Rehearsal) -> str:
    """Writes one line on time, memory and the machine."""
    busy, n = load()
    told = f"about {duration(rehearsal.seconds)} and {rehearsal.memory_bytes / GIB:.1f} GiB"
    if rehearsal.device == "GPU":
        return f"{told} on this GPU ({_parameters(rehearsal)}; from a rehearsal)"
    state = "free"
    if busy > BUSY * n:  # others have their share of it
        state = f"busy now, so up to {duration(rehearsal.seconds * (busy + n) / n)}"
    return (
        f"{told} on this CPU with its {n} processors to itself ({state}: load {busy:.1f}; "
        f"{_parameters(rehearsal)}; from a rehearsal on random images)"
    )


def _parameters(rehearsal: Rehearsal) -> str:
    """Writes how many parameters there are, and how many of them DP-SGD trains."""
    told = f"{rehearsal.n_parameters:,} parameters"
    if rehearsal.n_trained is None:
        return told
    return f"{told}, of which DP-SGD trains {rehearsal.n_trained:,}"


def duration(seconds: float) -> str:
    """Formats seconds in the largest unit that leaves at least 2."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
