"""Computations on all records with a private output. One object owns sampler, clip, noise and
event.

What is accounted cannot differ from what runs, because both are read off the same fields. Fields
are public numbers; records, keys and functions are arguments. Neither mechanism ever learns how
many records there are: rates and denominators are constants of the configuration.

Every release asks a question (`dpgen.privacy.question`): the mechanism's own fields, those of the
statistic or objective, the parameters, how it is computed. Its coins, draws and noise are those of
that question; another question has others.

    ``NoisySGD``  Poisson sample, per-record clipped gradients, Gaussian noise: DP-SGD (Abadi et al.
                  2016, Algorithm 1, with the sampling its analysis assumes).
    ``NoisySum``  one Gaussian release of a sum of clipped per-record statistics (Balle and Wang
                  2018).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from dp_accounting.dp_event import DpEvent
from torch import Tensor

from dpgen.privacy.clipping import Parameters, add_clipped, clip_factors, zero_sum
from dpgen.privacy.contributions import Block, Nobody, Objective, Records, Statistic, Witness
from dpgen.privacy.events import GaussianLeaf
from dpgen.privacy.gradients import engine_of
from dpgen.privacy.noise import NoiseSource
from dpgen.privacy.question import Given, Question

__all__ = ["Block", "NoisySGD", "NoisyStep", "NoisySum", "Objective", "Records", "Statistic"]

NOBODY = Nobody()


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


def _moved(rows: Tensor, device: torch.device) -> Tensor:
    """Rows on the device, without waiting for what it still computes."""
    return rows.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else rows


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
        witness: Witness = NOBODY,
    ) -> Iterator[NoisyStep]:
        if not 0 <= start <= self.n_steps:
            raise ValueError(f"start must lie in [0, n_steps = {self.n_steps}], got {start}")
        for index in range(start, self.n_steps):
            yield NoisyStep(self, index, records, noise, micro_batch, device, witness)


class NoisyStep:
    """One release of a NoisySGD. The batch never comes out; `gradient` answers once."""

    def __init__(
        self,
        mechanism: NoisySGD,
        index: int,
        records: Records,
        noise: NoiseSource,
        micro_batch: int,
        device: torch.device,
        witness: Witness,
    ) -> None:
        self.index = index
        self._mechanism, self._records, self._noise = mechanism, records, noise
        self._micro_batch, self._device, self._witness = micro_batch, device, witness
        self._answered = False

    def gradient(self, objective: Objective, parameters: Parameters) -> Parameters:
        """The noised sum of clipped gradients over the constant expected batch size, float32.

        Args:
            objective: loss and random numbers of one record.
            parameters: released tensors to differentiate by.
        """
        if self._answered:
            raise RuntimeError(
                "NoisyStep.gradient answers once: a second answer would be a second release"
            )
        self._answered = True
        m = self._mechanism
        question = Question.of(
            mechanism=m, objective=objective, parameters=Given(parameters),
            engine=engine_of(objective.loss), micro_batch=self._micro_batch,
            device=self._device.type,
        )  # fmt: skip
        self._witness.asked(question, self.index)
        noise = self._noise.for_question(question.digest)
        # The coins of this question: whoever asks another one meets another batch.
        self._slots = noise.coins(self._records.n_slots, m.rate, release=self.index)
        total = zero_sum(parameters)
        for first in range(0, len(self._slots), self._micro_batch):
            slots = self._slots[first : first + self._micro_batch]
            self._add(total, slots, objective, noise, parameters)
        self._witness.answering(question, self.index)
        return {
            name: (
                noise.add(part, m.noise_std, release=self.index, name=name) / m.expected_batch
            ).float()
            for name, part in total.items()
        }

    def _add(
        self,
        total: Parameters,
        slots: np.ndarray,
        objective: Objective,
        noise: NoiseSource,
        parameters: Parameters,
    ) -> None:
        pixels, labels, valid = (
            _moved(t, self._device)
            for t in _filled(*self._records.read(slots), self._micro_batch)
        )
        missing = self._micro_batch - len(slots)
        addresses = np.concatenate([slots, np.repeat(slots[:1], missing)])
        draws = objective.draw(noise.draws(addresses, release=self.index, device=self._device))
        clip_norm = self._mechanism.clip_norm
        add_clipped(total, objective.loss, parameters, (pixels, labels, draws), valid, clip_norm)


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
        self,
        records: Records,
        noise: NoiseSource,
        *,
        micro_batch: int = 64,
        witness: Witness = NOBODY,
    ) -> dict[str, Tensor]:
        """The noisy tables, (n_rows, D) float64 each."""
        question = Question.of(mechanism=self, micro_batch=micro_batch, device="cpu")
        witness.asked(question, 0)
        noise = noise.for_question(question.digest)
        tables = {
            name: torch.zeros(shape, dtype=torch.float64)
            for name, shape in self.statistic.tables.items()
        }
        for first in range(0, records.n_slots, micro_batch):
            slots = np.arange(first, min(first + micro_batch, records.n_slots))
            self._add(tables, *_filled(*records.read(slots), micro_batch))
        witness.answering(question, 0)
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
