"""Measures the free memory of this machine, and the load of its processors."""

from __future__ import annotations

import resource
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Returns the bytes that this process can still take: free memory, within the limits of a
    container and of ``ulimit -v``.
    """
    process = psutil.Process()
    found = [psutil.virtual_memory().available]
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY:
        found.append(most - process.memory_info().vms)
    found.extend(_container(CGROUP))
    return max(0, min(found))


def _container(place: Path) -> list[int]:
    """Returns the free bytes of a container's memory, in a list that is empty without a limit."""
    try:
        limit = (place / "memory.max").read_text().strip()
        used = (place / "memory.current").read_text().strip()
    except OSError:
        return []
    return [int(limit) - int(used)] if limit.isdigit() and used.isdigit() else []


def load() -> tuple[float, int]:
    """Returns how many processes wanted a processor in the last minute, on average, and the number
    of processors.
    """
    return psutil.getloadavg()[0], psutil.cpu_count() or 1
