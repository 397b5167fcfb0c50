"""Runs a step of DP-SGD: coins, clipped gradients by micro-batch, noise.

Reference: Abadi et al. (2016), arXiv 1607.00133, Algorithm 1, with the sampling its analysis
assumes. Theorems B1 and F3.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from dpgen.privacy.mechanisms.clipping import Parameters, zero_sum
from dpgen.privacy.mechanisms.contributions import Objective, Witness
from dpgen.privacy.mechanisms.declared import NoisySGD
from dpgen.privacy.mechanisms.gradients import engine_of
from dpgen.privacy.mechanisms.noise import NoiseSource
from dpgen.privacy.mechanisms.prepared import PreparedRecords
from dpgen.privacy.mechanisms.question import Given, Question
from dpgen.privacy.mechanisms.shares import MicroBatch, Shares, Task


class NoisyStep:
    """One release of a NoisySGD. The batch never comes out; `gradient` answers once."""

    def __init__(
        self,
        mechanism: NoisySGD,
        index: int,
        records: PreparedRecords,
        noise: NoiseSource,
        micro_batch: int,
        device: torch.device,
        witness: Witness,
        shares: Shares | None = None,
    ) -> None:
        self.index = index
        self._mechanism, self._records, self._noise = mechanism, records, noise
        self._micro_batch, self._device, self._witness = micro_batch, device, witness
        self._shares = shares or Shares()
        self._answered = self._closed = False

    def close(self) -> None:
        """Ends the step's turn: it answers nothing from now on, so that every answer is noted."""
        self._closed = True

    def gradient(self, objective: Objective, parameters: Parameters) -> Parameters:
        """Returns the noised sum of clipped gradients, divided by the constant expected batch size;
        float32. Raises RuntimeError when it is called twice, or after the next step has begun.

        Args:
            objective: loss and random numbers of one record.
            parameters: released tensors to differentiate by.
        """
        if self._answered:
            raise RuntimeError(
                "NoisyStep.gradient answers once: a second answer would be a second release"
            )
        if self._closed:
            raise RuntimeError(
                f"step {self.index} is over: ask each step before the next one, so that what was "
                "answered is noted"
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
        # The coins belong to this question: another question gets another batch.
        self._slots = noise.coins(self._records.n_slots, m.rate, release=self.index)
        self._read = self._records.seen_by(objective, question)
        total = zero_sum(parameters)
        task = Task(objective, parameters, m.clip_norm, self._device)
        self._shares.add(total, task, self._batches(noise))
        self._witness.answering(question, self.index)
        answer = {
            name: (
                noise.add(part, m.noise_std, release=self.index, name=name) / m.expected_batch
            ).float()
            for name, part in total.items()
        }
        self._witness.answered(question, self.index, answer)
        return answer

    def _batches(self, noise: NoiseSource) -> Iterator[MicroBatch]:
        """Yields the sample in micro-batches of one size."""
        size = self._micro_batch
        for first in range(0, len(self._slots), size):
            slots = self._slots[first : first + size]
            addresses = np.concatenate([slots, np.repeat(slots[:1], size - len(slots))])
            draws = noise.draws(addresses, release=self.index, device=self._device)
            rows_fn = partial(self._read, slots, size)
            yield MicroBatch(self._records.records, slots, rows_fn, draws)
