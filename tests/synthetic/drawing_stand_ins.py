"""Work that processes of a test draw from instead of a run. They load this module by its name."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from dpgen.generator.draw import Draw
from dpgen.generator.drawing import Redraws
from dpgen.images.images import Images
from dpgen.synthetic.processes import Work

SIZE = 32


@dataclass(frozen=True)
class Flat(Work):
    """Blocks of which each has its own number for a grey, and an end: by an error, or killed.

    Args:
        fails: the number of the block in whose place the process ends; -1 for none.
        how: "error", "killed", or "slow" for one that draws for an hour.
    """

    fails: int = -1
    how: str = "error"

    def blocks(self, chosen: range, redraws: Redraws) -> Iterator[Images]:
        for block in chosen:
            if block == self.fails:
                if self.how == "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                if self.how == "slow":
                    time.sleep(3600)
                raise ValueError(f"block {block} cannot be drawn")
            labels = self.labels[block * SIZE : (block + 1) * SIZE]
            yield Images(torch.full((len(labels), 1, 8, 8), block / 127.5 - 1), labels)


def flat(n_images: int = 300, **ends: object) -> Flat:
    work = Flat(Path("run"), "", Draw(), torch.arange(n_images) % 3, 0, False)
    return replace(work, **ends)  # type: ignore[arg-type]
