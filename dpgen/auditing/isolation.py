"""How far what a record contributes depends on its row and on its neighbours in a micro-batch.

Taking a record away moves all later ones up by a row and gives them other neighbours. Where a
kernel's rounding depends on the row, or on what lies in the other rows, all of them then contribute
something else, and the sum moves by more than the one record: the margin that every clip leaves
(`dpgen.privacy.clipping.MARGIN`) is all that there is for that. Measured is the production code on
the device that trains, with its own network, loss, precision and micro-batch: sums of a batch, of
the batch without one record, and of that record alone.

    e = ||S(all) - S(all but i) - S(i)|| / C,   allowed:  n e / (number of others) <= 1 - 1 / MARGIN

for the n records that a sum may have. The gradients are scaled to the clip norm, whatever their
length, so that e is the worst relative deviation; the others are taken to deviate all in the same
direction. What it cannot see: deviations that need other records, or other shapes than this run's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpgen.auditing.branches import ROUNDING, Summed
from dpgen.auditing.overheard import bound
from dpgen.auditing.stand_ins import StandIns, neighbours
from dpgen.data.images import PublicFacts, to_float
from dpgen.privacy.clipping import MARGIN
from dpgen.privacy.mechanisms import NoisySGD, NoisySum

N_ALONE = 48  # records that are summed alone, each at a step of its own
SMALL = 2.0**-30  # of the clip norm: shorter than every gradient
EXTRA = 3  # records in a second micro-batch


@dataclass(frozen=True)
class Asked:
    """What a stage asked of its records at its first release.

    Args:
        question: objective and parameters that `NoisyStep.gradient` was given; nothing for a
            NoisySum.
        micro_batch: rows of a micro-batch.
        device: where gradients are computed.
    """

    mechanism: NoisySGD | NoisySum
    question: Sequence[Any] = ()
    micro_batch: int = 64
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


@dataclass(frozen=True)
class Isolation:
    """What was measured of a stage.

    share: the largest sum of one record alone, in units of the bound.
    moved: e, the most that the others moved together when one of them went, in units of the bound.
    n_others: how many they were.
    n_records: that a sum of this stage may have.
    device: "cpu" or "cuda".
    """

    share: float
    moved: float
    n_others: int
    n_records: int
    device: str

    @property
    def of_a_sum(self) -> float:
        """What it comes to for a sum of `n_records`, in units of the bound."""
        return self.moved / self.n_others * self.n_records

    @property
    def moved_too_far(self) -> bool:
        return self.of_a_sum > 1 - 1 / MARGIN

    @property
    def passed(self) -> bool:
        return not self.moved_too_far and self.share <= (1 + ROUNDING) / MARGIN


def isolation(asked: Asked, facts: PublicFacts, *, seed: int = 0) -> Isolation:
    """Measures a stage with stand-in records, on its own device."""
    records, size = _Rows(facts, asked.micro_batch + EXTRA, seed), asked.micro_batch
    everybody = range(records.n_slots)
    whole = _sum(asked, records, everybody, size)
    moved = 0.0
    for gone in (0, size // 2, size - 1):
        others = _sum(asked, records, [i for i in everybody if i != gone], size)
        moved = max(moved, _length(whole - others - _sum(asked, records, [gone], size)))
    # Alone in a micro-batch of its own, which is quicker.
    alone = (
        _sum(asked, records, [k % records.n_slots], 1, release=k % _n_steps(asked.mechanism))
        for k in range(N_ALONE)
    )
    share = max(_length(one) for one in alone)
    return Isolation(
        share, moved, len(everybody) - 1, most_records(asked.mechanism, facts), asked.device.type
    )


def most_records(mechanism: NoisySGD | NoisySum, facts: PublicFacts) -> int:
    """How many records a sum has at most: all, or those of a batch eight standard deviations above
    the mean.
    """
    if isinstance(mechanism, NoisySum):
        return facts.n_records
    spread = math.sqrt(facts.n_records * mechanism.rate * (1 - mechanism.rate))
    return min(facts.n_records, math.ceil(mechanism.expected_batch + 8 * spread))


def _n_steps(mechanism: NoisySGD | NoisySum) -> int:
    return mechanism.n_releases


def _length(total: Tensor) -> float:
    length = float(total.norm())
    return length if math.isfinite(length) else math.inf


def _sum(
    asked: Asked, records: _Rows, batch: Sequence[int], micro_batch: int, release: int = 0
) -> Tensor:
    """The sum of these records before its noise, all tensors in a row, in units of the bound."""
    mechanism = asked.mechanism
    if isinstance(mechanism, NoisySGD):
        noise = Summed(batch)
        short = replace(mechanism, clip_norm=SMALL * mechanism.clip_norm)
        step = next(
            short.steps(
                records, noise, start=release, micro_batch=micro_batch, device=asked.device
            )  # fmt: skip
        )
        step.gradient(*asked.question)
        scale = short.clip_norm
    else:
        noise, scale = Summed(()), bound(mechanism)
        mechanism.release(records.only(batch), noise, micro_batch=micro_batch)
    return torch.cat([part.reshape(-1) for part in noise.sums.values()]) / scale


class _Rows:
    """Stand-in records of every class, read as private ones are."""

    def __init__(self, facts: PublicFacts, n: int, seed: int) -> None:
        base, others = neighbours(facts, seed)
        sources: list[StandIns] = list(others.values())
        pixels = torch.cat([base.pixels, *(source.pixels[-1:] for source in sources)])
        self._pixels = pixels[torch.arange(n) % len(pixels)]
        labels = torch.arange(n) % facts.n_classes
        # The last of them all is of no class: it takes a row and contributes nothing.
        self._labels = torch.where(torch.arange(n) == n - 1, facts.n_classes, labels)
        self._n_classes, self.n_slots = facts.n_classes, n

    def only(self, batch: Sequence[int]) -> _Rows:
        chosen = object.__new__(_Rows)
        rows = torch.tensor(list(batch), dtype=torch.int64)
        chosen._pixels, chosen._labels = self._pixels[rows], self._labels[rows]
        chosen._n_classes, chosen.n_slots = self._n_classes, len(rows)
        return chosen

    def read(self, slots: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        pixels, labels = self._pixels[slots], self._labels[slots]
        valid = labels < self._n_classes
        return to_float(pixels), torch.where(valid, labels, 0), valid
