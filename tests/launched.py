"""Starts a program in several processes, as a launcher does, and waits for all of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SECONDS = 240.0


class Ended(NamedTuple):
    """A process that has ended."""

    status: int
    out: str
    err: str


def start(
    n: int, arguments: Sequence[str], *, env: Mapping[str, str] | None = None
) -> list[subprocess.Popen[str]]:
    """Starts ``python ARGUMENTS`` n times; alone if n is 1, else with what a launcher sets."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        **{k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")},
        "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
        **(env or {}),
    }  # fmt: skip
    places = [
        {
            "RANK": str(k), "LOCAL_RANK": str(k), "WORLD_SIZE": str(n), "LOCAL_WORLD_SIZE": str(n),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }
        for k in range(n)
    ]  # fmt: skip
    return [
        subprocess.Popen(
            [sys.executable, *arguments], env={**common, **(place if n > 1 else {})}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for place in places
    ]  # fmt: skip


def ended(processes: Sequence[subprocess.Popen[str]]) -> list[Ended]:
    """Waits for all processes, and kills those that are left when one takes too long."""
    try:
        outputs = [process.communicate(timeout=SECONDS) for process in processes]
        return [Ended(p.returncode, *o) for p, o in zip(processes, outputs, strict=True)]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()
