"""The sum of the clipped gradients of one step, computed by one process or shared among several.

The sum does not depend on the number of processes. Each micro-batch is computed once, by one
process, from the same numbers in the same shape, and the sums of the micro-batches are added one by
one in their order, never in an order that depends on who computed them. So the total is equal in
every bit, and a run that was killed may continue with another number of processes. No process
scales its sum, and none adds noise to it: `dpgen.privacy.mechanisms.noisy_step` does that once, to
the total.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Protocol

import numpy as np
import torch

from dpgen.privacy.mechanisms.clipping import Parameters, add_clipped
from dpgen.privacy.mechanisms.contributions import Objective, Records
from dpgen.privacy.mechanisms.draws import Draws
from dpgen.privacy.mechanisms.micro_batches import Rows, moved

__all__ = ["Helper", "MicroBatch", "Shares", "Task"]


@dataclass(frozen=True)
class MicroBatch:
    """Some records of a step and their random numbers. Records are read when `rows` is first used:
    a helper may read them itself.

    Args:
        records: all records.
        slots: slots of those of this micro-batch, (B,).
        rows_fn: reads them, filled up to the size of a micro-batch.
        draws: the random numbers of all rows at this step.
    """

    records: Records
    slots: np.ndarray
    rows_fn: Callable[[], Rows]
    draws: Draws

    @cached_property
    def rows(self) -> Rows:
        """Returns the rows of the records, in memory of the CPU; one marked as not valid
        contributes zero.
        """
        return self.rows_fn()


@dataclass(frozen=True)
class Task:
    """What the micro-batches of one step have in common.

    Args:
        objective: loss and random numbers of one record.
        parameters: released tensors to differentiate by.
        clip_norm: the largest l2 norm of one record's gradient.
        device: the device on which gradients are computed.
    """

    objective: Objective
    parameters: Parameters
    clip_norm: float
    device: torch.device

    def add(self, total: Parameters, rows: Rows, draws: Draws) -> None:
        """Adds the clipped gradients of one micro-batch to ``total``, in place."""
        pixels, labels, valid = (moved(t, self.device) for t in rows)
        given = (pixels, labels, self.objective.draw(draws))
        add_clipped(total, self.objective.loss, self.parameters, given, valid, self.clip_norm)


class Helper(Protocol):
    """Another process that computes the sums of micro-batches, one at a time."""

    def ask(self, task: Task, batch: MicroBatch) -> None:
        """Sends a micro-batch, and does not wait for its sum."""

    def answer(self) -> Parameters:
        """Waits for the sum of the clipped gradients of the micro-batch that was sent last: float64
        on the CPU, by name.
        """


class Shares:
    """This process and its helpers, which share the micro-batches of a step.

    Args:
        helpers: the other processes.
    """

    def __init__(self, helpers: Sequence[Helper] = ()) -> None:
        self._helpers = tuple(helpers)

    def add(self, total: Parameters, task: Task, batches: Iterable[MicroBatch]) -> None:
        """Adds the clipped gradients of all micro-batches to ``total``, in place and in order.

        In each round this process takes the first micro-batch and every helper one of the next.
        Without micro-batches nobody is asked.
        """
        left = iter(batches)
        while batch_round := list(islice(left, 1 + len(self._helpers))):
            asked: list[Helper] = []
            try:
                for helper, batch in zip(self._helpers, batch_round[1:], strict=False):
                    helper.ask(task, batch)
                    asked.append(helper)
                task.add(total, batch_round[0].rows, batch_round[0].draws)
            finally:
                # Also after an error: a helper that waits to answer would never hear of it.
                found = _answers(asked)
            for one in found:
                if _shapes(one) != _shapes(total):
                    raise RuntimeError("a helper must answer with a sum of the same shapes")
                for name, part in total.items():
                    part.add_(one[name].to(part.device))


def _shapes(tensors: Parameters) -> dict[str, tuple[torch.dtype, torch.Size]]:
    return {name: (t.dtype, t.shape) for name, t in tensors.items()}


def _answers(asked: Sequence[Helper]) -> list[Parameters]:
    """Waits for the answers of all helpers; raises the first error only then."""
    found: list[Parameters] = []
    errors: list[Exception] = []
    for helper in asked:
        try:
            found.append(helper.answer())
        except Exception as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return found
