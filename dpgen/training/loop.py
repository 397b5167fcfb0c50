"""The steps of a training loop: its progress bar, the average of the weights, and where it goes on
after a kill.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from dpgen.networks.ema import EMA
from dpgen.progress import progress_bar
from dpgen.runs.checkpoint import Checkpoints, TrainingState


@dataclass(frozen=True)
class Kept:
    """Where a loop keeps its state, to go on from after a kill.

    Args:
        name: of the state among the checkpoints.
        state: everything that moves in the loop, its generator and the average included.
    """

    name: str
    checkpoints: Checkpoints
    state: TrainingState

    def restore(self) -> int:
        """Puts everything where it was; the number of steps that are done."""
        held = self.checkpoints.load(self.name)
        if held is None:
            return 0
        tensors, numbers = held
        self.state.load(tensors)
        return int(numbers["step"])

    def save(self, done: int, *, last: bool) -> None:
        """Saves the state after ``done`` steps, if it is time to."""
        if self.checkpoints.due() or last:
            self.checkpoints.save(self.name, self.state.tensors(), step=done)


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

    After each step the average follows and the state is kept when it is time to, and after the last
    one. A loop that is left early leaves the network as it is then.

    Args:
        title: of the progress bar.
        n_steps: of the whole loop; those that the kept state holds are not made again.
        network: trained in place.
        average: of ``network``.
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
