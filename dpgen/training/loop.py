"""The steps of a training loop: its progress bar, the average of the weights, and its saved state.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from dpgen.networks.ema import EMA
from dpgen.progress import progress_bar
from dpgen.runs.checkpoint import Checkpoints, TrainingState


@dataclass(frozen=True)
class Kept:
    """The saved state of a loop, from which it continues after a kill.

    Args:
        name: name of the state among the checkpoints.
        checkpoints: where the state is saved.
        state: everything that changes in the loop, including its generator and the average.
        learned: digests of what is learned from, where a statement names it; "" where none does.
    """

    name: str
    checkpoints: Checkpoints
    state: TrainingState
    learned: str = ""

    def restore(self) -> int:
        """Restores the state, and returns the number of steps that are done. Raises ValueError for
        a state that was learned from something else.
        """
        held = self.checkpoints.load(self.name)
        if held is None:
            return 0
        tensors, numbers = held
        if numbers.get("learned", "") != self.learned:
            raise ValueError(
                f"the checkpoint {self.name!r} must be of a training on what this run names, and "
                "it was learned from something else: it belongs to another run. Start a new run "
                "folder"
            )
        self.state.load(tensors)
        return int(numbers["step"])

    def save(self, done: int, *, last: bool) -> None:
        """Saves the state after ``done`` steps, if a save is due or this is the last step."""
        if self.checkpoints.due() or last:
            learned = {"learned": self.learned} if self.learned else {}
            self.checkpoints.save(self.name, self.state.tensors(), step=done, **learned)


def decay_rate(
    optimizer: torch.optim.Optimizer, learning_rate: float, step: int, n_steps: int
) -> None:
    """Sets the learning rate of a step: half a cosine from ``learning_rate`` at step 0 down to 0 at
    ``n_steps``.
    """
    decay = 0.5 * (1 + math.cos(math.pi * step / n_steps))
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * decay


def training_steps(
    title: str,
    n_steps: int,
    network: nn.Module,
    average: EMA,
    *,
    show: bool,
    kept: Kept | None = None,
) -> Iterator[int]:
    """Yields the steps in which the caller trains ``network``, which ends with averaged weights.

    After each step the average is updated, and the state is saved when that is due and after the
    last step. A loop that is left early does not change the network any further.

    Args:
        title: title of the progress bar.
        n_steps: steps of the whole loop; those in the saved state are not repeated.
        network: the network, trained in place.
        average: the average of ``network``.
        show: whether to show the progress bar.
        kept: the saved state; None saves nothing.
    """
    start = 0 if kept is None else kept.restore()
    with progress_bar(title, n_steps, show=show, done=start) as advance:
        for step in range(start, n_steps):
            yield step
            average.update(network)
            if kept is not None:
                kept.save(step + 1, last=step + 1 == n_steps)
            advance()
    network.load_state_dict(average.module.state_dict())
