"""Computations on all records with a private output. One object owns sampler, clip, noise and
event.

What is accounted cannot differ from what runs, because both are read off the same fields. Fields
are public numbers; records, keys and functions are arguments. Neither mechanism ever learns how
many records there are: rates and denominators are constants of the configuration.

    ``NoisySGD``  Poisson sample, per-record clipped gradients, Gaussian noise: DP-SGD (Abadi et al.
                  2016, Algorithm 1, with the sampling its analysis assumes).
    ``NoisySum``  one Gaussian release of a sum of clipped per-record statistics (Balle and Wang
                  2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from dp_accounting.dp_event import DpEvent
from torch import Tensor

from dpgen.privacy.clipping import LossFn, Parameters, add_clipped, clip_factors, zero_sum
from dpgen.privacy.events import GaussianLeaf
from dpgen.privacy.noise import NoiseSource

DrawFn = Callable[[np.random.Generator], Mapping[str, np.ndarray]]


class Records(Protocol):
    """The private side: rows by slot. Only mechanisms hold one, and only while they run."""

    @property
    def n_slots(self) -> int: ...

    def read(self, slots: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """pixels (B, C, H, W) float32 in [-1, 1], labels (B,) int64 in range, valid (B,) bool."""


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a number greater than 0, got {value}")


def _filled(
    pixels: Tensor, labels: Tensor, valid: Tensor, size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """A micro-batch of ``size`` rows, the added ones invalid: every one has the same shape, so
    that rounding inside a kernel does not tell how many records there are.
    """
    real = torch.arange(size) < len(valid)
    return _extended(pixels, size), _extended(labels, size), _extended(valid, size) & real


def _extended(rows: Tensor, size: int) -> Tensor:
    """The first row again behind the last, until there are ``size``."""
    missing = size - len(rows)
    return torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])]) if missing else rows


@dataclass(frozen=True)
class NoisySGD:
    """``n_steps`` noisy gradients, each the noised sum of clipped per-record gradients of a Poisson
    sample.

    Sensitivity: adding or removing one record moves a step's sum by at most ``clip_norm``, whatever
    the records; replacing one by at most twice that, which the accountant knows. An empty sample is
    a step like any other: it releases noise. A non-finite gradient contributes zero. The
    privacy loss is dominated by the ``n_steps``-fold Poisson-subsampled Gaussian of this rate and
    multiplier (theorem B1; theorem F3 for adaptive composition).

    Args:
        rate: probability with which each record enters a step, in (0, 1], the same constant for
            every data set.
        n_steps: number of releases.
        noise_multiplier: standard deviation of the noise on the sum, in units of ``clip_norm``.
        n_records: the public, declared size of the data set; with ``rate`` it sets the constant
            denominator.
        clip_norm: the largest l2 norm one record contributes.
    """

    rate: float
    n_steps: int
    noise_multiplier: float
    n_records: int
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        _positive(n_records=self.n_records, clip_norm=self.clip_norm)
        self._leaf  # noqa: B018  an event that cannot be priced must not exist

    @property
    def _leaf(self) -> GaussianLeaf:
        return GaussianLeaf(self.rate, self.noise_multiplier, self.n_steps)

    @property
    def event(self) -> DpEvent:
        return self._leaf.event

    @property
    def n_releases(self) -> int:
        return self.n_steps

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise on the sum, per coordinate."""
        return self.noise_multiplier * self.clip_norm

    @property
    def expected_batch(self) -> float:
        """The denominator of every step: a constant, never the size of a batch."""
        return self.rate * self.n_records

    @property
    def settings(self) -> dict[str, Any]:
        return {"mechanism": "NoisySGD", **asdict(self)}

    def steps(
        self,
        records: Records,
        noise: NoiseSource,
        *,
        start: int,
        micro_batch: int,
        device: torch.device,
    ) -> Iterator[NoisyStep]:
        if not 0 <= start <= self.n_steps:
            raise ValueError(f"start must lie in [0, n_steps = {self.n_steps}], got {start}")
        for index in range(start, self.n_steps):
            slots = noise.coins(records.n_slots, self.rate, release=index)
            yield NoisyStep(self, index, slots, records, noise, micro_batch, device)


class NoisyStep:
    """One release of a NoisySGD. The batch never comes out; `gradient` answers once."""

    def __init__(
        self,
        mechanism: NoisySGD,
        index: int,
        slots: np.ndarray,
        records: Records,
        noise: NoiseSource,
        micro_batch: int,
        device: torch.device,
    ) -> None:
        self.index = index
        self._mechanism, self._slots, self._records, self._noise = mechanism, slots, records, noise
        self._micro_batch, self._device = micro_batch, device
        self._answered = False

    def gradient(self, loss_fn: LossFn, draw_fn: DrawFn, parameters: Parameters) -> Parameters:
        """The noised sum of clipped gradients over the constant expected batch size, float32.

        Args:
            loss_fn: loss of one record: ``loss_fn(parameters, pixels (C, H, W), label (), draws)``,
                scalar.
            draw_fn: the random numbers of one record at this step, from a generator of its own;
                arrays whose shapes must not depend on the record.
            parameters: released tensors to differentiate by.
        """
        if self._answered:
            raise RuntimeError(
                "NoisyStep.gradient answers once: a second answer would be a second release"
            )
        self._answered = True
        total = zero_sum(parameters)
        for first in range(0, len(self._slots), self._micro_batch):
            self._add(
                total, self._slots[first : first + self._micro_batch], loss_fn, draw_fn, parameters
            )
        m = self._mechanism
        return {
            name: (
                self._noise.add(part, m.noise_std, release=self.index, name=name) / m.expected_batch
            ).float()
            for name, part in total.items()
        }

    def _add(
        self,
        total: Parameters,
        slots: np.ndarray,
        loss_fn: LossFn,
        draw_fn: DrawFn,
        parameters: Parameters,
    ) -> None:
        pixels, labels, valid = self._records.read(slots)
        rows = [draw_fn(self._noise.draws(int(slot), release=self.index)) for slot in slots]
        draws = {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}
        pixels, labels, valid = _filled(pixels, labels, valid, self._micro_batch)
        draws = {name: _extended(t, self._micro_batch) for name, t in draws.items()}
        device = self._device
        batch = (pixels.to(device), labels.to(device), {k: t.to(device) for k, t in draws.items()})
        clip_norm = self._mechanism.clip_norm
        add_clipped(total, loss_fn, parameters, batch, valid.to(device), clip_norm)


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
    """What each record contributes to a NoisySum: a frozen dataclass of public numbers that is also
    a function.

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
    def settings(self) -> dict[str, Any]: ...

    def __call__(self, pixels: Tensor, labels: Tensor) -> dict[str, Block]: ...


@dataclass(frozen=True)
class NoisySum:
    """One Gaussian release of the sum over all records of a clipped statistic.

    Sensitivity: a record's blocks, taken together as one vector, are clipped to ``bound``, so
    adding or removing it moves the release by at most ``bound`` and replacing it by at most twice
    that, which the accountant knows (theorem B2). A non-finite statistic contributes zero. Every
    real coordinate of every table gets noise, also rows that no record sits in.

    Args:
        statistic: what a record contributes.
        noise_multiplier: standard deviation of the noise, in units of ``statistic.bound``.
    """

    statistic: Statistic
    noise_multiplier: float

    def __post_init__(self) -> None:
        _positive(bound=self.statistic.bound)
        self._leaf  # noqa: B018  an event that cannot be priced must not exist

    @property
    def _leaf(self) -> GaussianLeaf:
        return GaussianLeaf(1.0, self.noise_multiplier, 1)

    @property
    def event(self) -> DpEvent:
        return self._leaf.event

    @property
    def n_releases(self) -> int:
        return 1

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise on every coordinate of the sums."""
        return self.noise_multiplier * self.statistic.bound

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "mechanism": "NoisySum",
            "noise_multiplier": self.noise_multiplier,
            "bound": self.statistic.bound,
            "statistic": self.statistic.settings,
        }

    def release(
        self, records: Records, noise: NoiseSource, *, micro_batch: int = 64
    ) -> dict[str, Tensor]:
        """The noisy tables, (n_rows, D) float64 each."""
        tables = {
            name: torch.zeros(shape, dtype=torch.float64)
            for name, shape in self.statistic.tables.items()
        }
        for first in range(0, records.n_slots, micro_batch):
            slots = np.arange(first, min(first + micro_batch, records.n_slots))
            self._add(tables, *_filled(*records.read(slots), micro_batch))
        return {
            name: noise.add(table, self.noise_std, release=0, name=name)
            for name, table in tables.items()
        }

    def _add(
        self, tables: dict[str, Tensor], pixels: Tensor, labels: Tensor, valid: Tensor
    ) -> None:
        blocks = self.statistic(pixels, labels)
        squares = torch.stack([b.values.double().square().sum(1) for b in blocks.values()])
        factors = clip_factors(squares.sum(0).sqrt(), self.statistic.bound) * valid
        for name, block in blocks.items():
            # Zero times infinity is NaN: drop such records, do not scale them.
            finite = torch.where(factors[:, None] > 0, block.values.double(), 0.0)
            part = torch.zeros_like(tables[name])
            # A table of the micro-batch first: short sums of long ones, so rounding stays small.
            tables[name] += part.index_add_(0, block.rows, factors[:, None] * finite)
