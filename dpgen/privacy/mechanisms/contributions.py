"""Defines what a record contributes to a release, and the interface that watches what is asked.

A `Statistic` is what it adds to a sum, an `Objective` the loss whose gradient it adds. Both are
frozen dataclasses of public numbers and released values, and functions of one record: all that they
hold is described and becomes a part of the question (`dpgen.privacy.mechanisms.question`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from dpgen.privacy.mechanisms.draws import Draws
    from dpgen.privacy.mechanisms.gradients import LossFn
    from dpgen.privacy.mechanisms.question import Question


class Records(Protocol):
    """The private side: rows by slot. Only mechanisms hold one, and only while they run."""

    @property
    def n_slots(self) -> int: ...

    def read(self, slots: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """pixels (B, C, H, W) float32 in [-1, 1], labels (B,) int64 in range, valid (B,) bool."""


@dataclass(frozen=True)
class Block:
    """One named part of a record's statistic: ``values[i]`` is added to row ``rows[i]`` of its
    table.

    Args:
        values: (B, D).
        rows: (B,) int64.
    """

    values: Tensor
    rows: Tensor


class Statistic(Protocol):
    """The contribution of each record to a NoisySum: a frozen dataclass of public numbers and of
    results of earlier releases that is also a function.

    It treats each record by itself; `NoisySum` clips the blocks of a record, as one vector, to
    ``bound``.
    """

    @property
    def bound(self) -> float:
        """The largest l2 norm of one record's blocks taken together."""

    @property
    def tables(self) -> dict[str, tuple[int, int]]:
        """(n_rows, D) of every block."""

    @property
    def settings(self) -> dict[str, Any]:
        """The public numbers among its fields, for the charge."""

    def __call__(self, pixels: Tensor, labels: Tensor) -> dict[str, Block]: ...


class Objective(Protocol):
    """The loss of one record and its random numbers: a frozen dataclass of public numbers, of
    modules and of results of earlier releases.
    """

    def draw(self, draws: Draws) -> Mapping[str, Tensor]:
        """The random numbers of B records at one step, each from a stream of its own; tensors
        (B, ...) whose shapes must not depend on the records.
        """

    @property
    def loss(self) -> LossFn:
        """The loss of one record, scalar: ``loss(parameters, pixels (C, H, W), label (), draws)``.
        A method, or a `BatchedLoss`, which is computed for many records at once.
        """


class Witness(Protocol):
    """Watches what is asked and may refuse it: `PrivateDataset` does, for every run on private
    records.
    """

    def asked(self, question: Question, release: int) -> None:
        """Called before a record is read for this release; may refuse."""

    def answering(self, question: Question, release: int) -> None:
        """Called when the sum is there, before it gets its noise; may refuse."""

    def answered(self, question: Question, release: int, answer: Mapping[str, Tensor]) -> None:
        """Called with the noised answer, before it is handed out; may refuse."""


class Nobody:
    """A Witness that refuses nothing: for releases on made-up records, which no ledger is kept
    of.
    """

    def asked(self, question: Question, release: int) -> None:
        pass

    def answering(self, question: Question, release: int) -> None:
        pass

    def answered(self, question: Question, release: int, answer: Mapping[str, Tensor]) -> None:
        pass
