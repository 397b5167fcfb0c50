"""Computations on all records with a private output. One object owns sampler, clip, noise and
event.

What is accounted cannot differ from what runs, because both are read off the same fields, those of
`dpgen.privacy.declared`. Fields are public numbers; records, keys and functions are arguments.
Neither mechanism ever learns how many records there are: rates and denominators are constants of
the configuration.

Every release asks a question (`dpgen.privacy.question`): the mechanism's own fields, those of the
statistic or objective, the parameters, how it is computed. Its coins, draws and noise are those of
that question; another question has others.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dpgen.privacy.clipping import Parameters, add_clipped, clip_factors, zero_sum
from dpgen.privacy.contributions import Block, Objective, Records, Statistic, Witness
from dpgen.privacy.declared import NoisySGD, NoisySum
from dpgen.privacy.gradients import engine_of
from dpgen.privacy.noise import NoiseSource
from dpgen.privacy.question import Given, Question

__all__ = ["Block", "NoisySGD", "NoisyStep", "NoisySum", "Objective", "Records", "Statistic"]


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


def released_sum(
    mechanism: NoisySum,
    records: Records,
    noise: NoiseSource,
    micro_batch: int,
    witness: Witness,
) -> dict[str, Tensor]:
    """The noisy tables, (n_rows, D) float64 each."""
    question = Question.of(mechanism=mechanism, micro_batch=micro_batch, device="cpu")
    witness.asked(question, 0)
    noise = noise.for_question(question.digest)
    tables = {
        name: torch.zeros(shape, dtype=torch.float64)
        for name, shape in mechanism.statistic.tables.items()
    }
    for first in range(0, records.n_slots, micro_batch):
        slots = np.arange(first, min(first + micro_batch, records.n_slots))
        mechanism._add(tables, *_filled(*records.read(slots), micro_batch))
    witness.answering(question, 0)
    return {
        name: noise.add(table, mechanism.noise_std, release=0, name=name)
        for name, table in tables.items()
    }


def add_statistic(
    mechanism: NoisySum,
    tables: dict[str, Tensor],
    pixels: Tensor,
    labels: Tensor,
    valid: Tensor,
) -> None:
    """Adds the clipped blocks of a micro-batch to the tables, in place."""
    blocks = mechanism.statistic(pixels, labels)
    squares = torch.stack([b.values.double().square().sum(1) for b in blocks.values()])
    factors = clip_factors(squares.sum(0).sqrt(), mechanism.statistic.bound) * valid
    for name, block in blocks.items():
        # Zero times infinity is NaN: drop such records, do not scale them.
        finite = torch.where(factors[:, None] > 0, block.values.double(), 0.0)
        part = torch.zeros_like(tables[name])
        # A table of the micro-batch first: short sums of long ones, so rounding stays small.
        tables[name] += part.index_add_(0, block.rows, factors[:, None] * finite)
