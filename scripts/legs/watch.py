"""Reports the progress of a run from its checkpoints."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

from safetensors import safe_open


class Watch(threading.Thread):
    """Reads a run's checkpoints every second, prints its progress, and stops it after one of them.

    Args:
        state: folder of the checkpoints.
        name: name of the row.
        images: noised images of one step of DP-SGD.
        until: name of the checkpoint to stop after.
    """

    def __init__(self, state: Path, name: str, images: int, until: str | None) -> None:
        super().__init__(daemon=True)
        self._state, self._name, self._images, self._until = state, name, images, until
        self._over = threading.Event()
        self.seen: list[tuple[float, int]] = []  # (when, step) of the teacher's checkpoints

    def run(self) -> None:
        while not self._over.wait(1.0):
            step = steps_done(self._state / "teacher.safetensors")
            if step is not None and (not self.seen or step > self.seen[-1][1]):
                self.seen.append((time.time(), step))
                print(f"{self._name}: step {step}, {self.rate or 0:.0f} images/s", flush=True)
            if self._until is not None and (self._state / f"{self._until}.safetensors").exists():
                os.kill(os.getpid(), signal.SIGALRM)
                return

    def stop(self) -> None:
        self._over.set()

    @property
    def rate(self) -> float | None:
        """Returns the noised images per second between the first checkpoint and the last."""
        if len(self.seen) < 2:
            return None
        (start, first), (end, last) = self.seen[0], self.seen[-1]
        return (last - first) * self._images / (end - start)


def steps_done(checkpoint: Path) -> int | None:
    """Reads the step of a checkpoint; None if there is none."""
    if not checkpoint.exists():
        return None
    with safe_open(checkpoint, "pt") as file:
        return int(json.loads(file.metadata()["numbers"]).get("step", 0))
