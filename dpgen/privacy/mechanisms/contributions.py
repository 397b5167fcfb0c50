"""Defines what a record contributes to a release, and the interface that watches the questions.

A `Statistic` is what a record adds to a sum, an `Objective` the loss whose gradient it adds. Both
are frozen dataclasses of public numbers and released values, and functions of one record: all their
fields become a part of the question (`dpgen.privacy.mechanisms.question`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from dpgen.privacy.mechanisms.draws import Draws
    from dpgen.privacy.mechanisms.gradients import LossFn
    from dpgen.privacy.mechanisms.question import Question


class Records(Protocol):
    """The private records, read by slot. Only mechanisms hold one, and only while they run."""

    @property
    def n_slots(self) -> int: ...

    def read(self, slots: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Reads the records of these slots, (B,) integers.

        Returns:
            Pixels (B, C, H, W) float32 in [-1, 1], labels (B,) int64 in range, valid (B,) bool.
        """


@runtime_checkable
class InSilos(Protocol):
    """`Records` that each lie in a silo."""

    def silo_of(self, slots: np.ndarray) -> np.ndarray:
        """Returns the number of the silo of each of these slots, (B,) int64: a part of the record,
        as its label is.
        """


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
        """Returns the largest l2 norm of one record's blocks taken together."""

    @property
    def tables(self) -> dict[str, tuple[int, int]]:
        """Returns (n_rows, D) of every block's table, by name."""

    @property
    def settings(self) -> dict[str, Any]:
        """Returns the public numbers among the fields, for the charge."""

    def __call__(self, pixels: Tensor, labels: Tensor) -> dict[str, Block]: ...


@runtime_checkable
class Counting(Protocol):
    """A `Statistic` that counts: the last column of its table ``counts``, or of ``sums`` where it
    has no such table, is the number of records of each class, times ``count_scale``.
    """

    @property
    def count_scale(self) -> float:
        """Returns what one record adds there, greater than 0: a part of what `bound` limits."""


class Objective(Protocol):
    """The loss of one record and its random numbers: a frozen dataclass of public numbers, of
    modules and of results of earlier releases.
    """

    def draw(self, draws: Draws) -> Mapping[str, Tensor]:
        """Draws the random numbers of B records at one step, each from a stream of its own: tensors
        (B, ...) whose shapes must not depend on the records.
        """

    @property
    def loss(self) -> LossFn:
        """Returns the loss function of one record, ``loss(parameters, pixels (C, H, W), label (),
        draws)``, which gives a scalar: a method, or a `BatchedLoss`, which computes many records at
        once.
        """


@runtime_checkable
class Preparing(Protocol):
    """An `Objective` whose loss takes, in the place of pixels, rows that are made of them once for
    all steps.
    """

    def prepare(self, pixels: Tensor) -> Tensor:
        """Makes rows (B, ...) of images (B, C, H, W), each of one image alone, by public numbers
        and results of earlier releases that are fields of the objective.
        """


class Witness(Protocol):
    """Watches the questions of a stage and may refuse them by raising. `PrivateDataset` gives every
    run on private records a witness.
    """

    def asked(self, question: Question, release: int) -> None:
        """Checks a question before a record is read for this release."""

    def answering(self, question: Question, release: int) -> None:
        """Checks and notes a question when the sum is computed, before noise is added to it."""

    def answered(self, question: Question, release: int, answer: Mapping[str, Tensor]) -> None:
        """Checks the noised answer before it is returned to the caller."""


class Nobody:
    """A Witness that refuses nothing, for releases on made-up records, which have no ledger."""

    def asked(self, question: Question, release: int) -> None:
        pass

    def answering(self, question: Question, release: int) -> None:
        pass

    def answered(self, question: Question, release: int, answer: Mapping[str, Tensor]) -> None:
        pass
