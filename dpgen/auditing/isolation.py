"""Measures how much a record's contribution depends on its row and on the other records of its
micro-batch.

Removing a record moves all later ones up by a row and changes the contents of the other rows. If a
kernel's rounding depends on the row, or on the other rows, all later records then contribute
slightly different gradients, and the sum moves by more than the one record; only the margin that
every clip leaves (`dpgen.privacy.mechanisms.clipping.MARGIN`) covers this. The test runs the
production code on the device that trains, with its own network, loss, precision and micro-batch. It
compares one record's contribution in several rows of a full micro-batch, with different records of
weight zero in the other rows, to its contribution alone.

    e = max ||g(row, neighbours) - g(alone)|| / C,   allowed:  n e <= 1 - 1 / MARGIN

for the n records that a sum may have. All gradients are scaled to the clip norm, so that e is the
worst relative deviation, and all records are assumed to deviate at once and in one direction. The
test is deterministic: a kernel that treats rows alike has e = 0, except for the rounding of a sum
in float64. Not detected: deviations that need other records, or other rows.
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
from dpgen.auditing.stand_ins import neighbours
from dpgen.images.images import PublicFacts, to_float
from dpgen.privacy.mechanisms.clipping import MARGIN
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum

N_IMAGES = 2  # records that are put into several rows
N_ALONE = 48  # records that are summed alone, each at a step of its own
SMALL = 2.0**-30  # factor of the clip norm that makes it shorter than every gradient


@dataclass(frozen=True)
class Asked:
    """The question of a stage at its first release.

    Args:
        question: the arguments of `NoisyStep.gradient`, objective and parameters; empty for a
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
    """The isolation measured for a stage.

    share: the largest sum of one record alone, in units of the bound.
    moved: e, the largest change of a record's contribution by row and neighbours, in units of the
        bound.
    n_places: number of pairs of row and neighbours that were tried.
    n_records: the most records that a sum of this stage may have.
    device: "cpu" or "cuda".
    """

    share: float
    moved: float
    n_places: int
    n_records: int
    device: str

    @property
    def of_a_sum(self) -> float:
        """Returns the largest movement of a sum of `n_records`, in units of the bound."""
        return self.moved * self.n_records

    @property
    def moved_too_far(self) -> bool:
        return self.of_a_sum > 1 - 1 / MARGIN

    @property
    def passed(self) -> bool:
        return not self.moved_too_far and self.share <= (1 + ROUNDING) / MARGIN


def isolation(asked: Asked, facts: PublicFacts, *, seed: int = 0) -> Isolation:
    """Measures a stage with stand-in records, on its own device."""
    size, rng = asked.micro_batch, np.random.default_rng(seed)
    records, one = _Rows(facts, 2 * size + 1, seed), size
    rows = sorted({0, size // 3, size // 2, size - 1})
    moved, n_places = 0.0, 0
    for records.image in range(N_IMAGES):
        records.counting = one
        by_itself = _sum(asked, records, [one], size)
        for row in rows:
            before = rng.choice(one, row, replace=False)
            behind = one + 1 + rng.choice(size, size - 1 - row, replace=False)
            found = _sum(asked, records, [*sorted(before), one, *sorted(behind)], size)
            moved, n_places = max(moved, _length(found - by_itself)), n_places + 1
    records.counting = None
    # Each record alone in a micro-batch of size 1, which is faster.
    alone = (
        _sum(asked, records, [k % records.n_slots], 1, release=k % asked.mechanism.n_releases)
        for k in range(N_ALONE)
    )
    share = max(_length(x) for x in alone)
    n_records = most_records(asked.mechanism, facts)
    return Isolation(share, moved, n_places, n_records, asked.device.type)


def most_records(mechanism: NoisySGD | NoisySum, facts: PublicFacts) -> int:
    """Bounds the number of records in a sum: all records, or for a Poisson sample eight standard
    deviations above its mean.
    """
    n, rate = facts.n_records, mechanism.rate if isinstance(mechanism, NoisySGD) else 1.0
    return min(n, math.ceil(n * rate + 8 * math.sqrt(n * rate * (1 - rate))))


def _length(total: Tensor) -> float:
    length = float(total.norm())
    return length if math.isfinite(length) else math.inf


def _sum(
    asked: Asked, records: _Rows, batch: Sequence[int], micro_batch: int, release: int = 0
) -> Tensor:
    """Computes the sum of these records before its noise, all tensors flattened into one vector, in
    units of the bound.
    """
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
        mechanism.release(_Some(records, batch), noise, micro_batch=micro_batch)
    return torch.cat([part.reshape(-1) for part in noise.sums.values()]) / scale


class _Rows:
    """Stand-in records of every class, read like private ones.

    counting: the only valid record, or None where all are valid.
    image: number of records by which the images are shifted.
    """

    def __init__(self, facts: PublicFacts, n: int, seed: int) -> None:
        base, others = neighbours(facts, seed)
        self._pixels = torch.cat([base.pixels, *(x.pixels[-1:] for x in others.values())])
        self._n_classes, self.n_slots = facts.n_classes, n
        self.counting: int | None = None
        self.image = 0

    def read(self, slots: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        which = torch.as_tensor(slots) + self.image
        valid = torch.ones(len(slots), dtype=torch.bool)
        if self.counting is not None:
            valid = torch.as_tensor(slots) == self.counting
        pixels = self._pixels[which % len(self._pixels)]
        return to_float(pixels), which % self._n_classes, valid


class _Some:
    """Some of the records, in a given order, for a NoisySum, which reads all records."""

    def __init__(self, records: _Rows, batch: Sequence[int]) -> None:
        self._records, self._batch, self.n_slots = records, np.array(batch), len(batch)

    def read(self, slots: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        return self._records.read(self._batch[slots])
