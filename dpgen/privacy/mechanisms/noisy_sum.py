"""Runs a Gaussian release of a sum: clipped statistics by micro-batch, noise.

Reference: Balle and Wang (2018), arXiv 1805.06530. Theorem B2.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dpgen.privacy.mechanisms.clipping import clip_factors
from dpgen.privacy.mechanisms.contributions import Records, Witness
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.privacy.mechanisms.micro_batches import filled
from dpgen.privacy.mechanisms.noise import NoiseSource
from dpgen.privacy.mechanisms.question import Question


def released_sum(
    mechanism: NoisySum,
    records: Records,
    noise: NoiseSource,
    micro_batch: int,
    witness: Witness,
) -> dict[str, Tensor]:
    """Returns the noisy tables by name, (n_rows, D) float64 each."""
    question = Question.of(mechanism=mechanism, micro_batch=micro_batch, device="cpu")
    witness.asked(question, 0)
    noise = noise.for_question(question.digest)
    tables = {
        name: torch.zeros(shape, dtype=torch.float64)
        for name, shape in mechanism.statistic.tables.items()
    }
    for first in range(0, records.n_slots, micro_batch):
        slots = np.arange(first, min(first + micro_batch, records.n_slots))
        add_statistic(mechanism, tables, *filled(*records.read(slots), micro_batch))
    witness.answering(question, 0)
    answer = {
        name: noise.add(table, mechanism.noise_std, release=0, name=name)
        for name, table in tables.items()
    }
    witness.answered(question, 0, answer)
    return answer


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
        # Zero times infinity is NaN: such records are dropped, not scaled.
        finite = torch.where(factors[:, None] > 0, block.values.double(), 0.0)
        part = torch.zeros_like(tables[name])
        # Each micro-batch is summed first and then added, which keeps rounding small.
        tables[name] += part.index_add_(0, block.rows, factors[:, None] * finite)
