"""Full-batch descent of softmax regression: outer products, clipped by the product of norms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from dpgen.auditing.branches import Summed
from dpgen.privacy.mechanisms.clipping import MARGIN, add_clipped, zero_sum
from dpgen.privacy.mechanisms.declared import NoisySGD
from dpgen.privacy.mechanisms.draws import Draws
from dpgen.privacy.mechanisms.gradients import engine_of, per_record_gradients
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.privacy.mechanisms.softmax import WEIGHTS, SoftmaxLoss

D, K, N = 5, 3, 24
CPU = torch.device("cpu")
STEPS = NoisySGD(1.0, 3, 2.0, N, clip_norm=1.0)


@dataclass(frozen=True)
class Rows:
    """An objective whose records are their own rows."""

    factor: float = 1.0

    def draw(self, draws: Draws) -> Mapping[str, Tensor]:
        return {}

    def prepare(self, pixels: Tensor) -> Tensor:
        return self.factor * pixels.flatten(1)

    @property
    def loss(self) -> SoftmaxLoss:
        return SoftmaxLoss()


class Records:
    """Rows with labels; one may be invalid."""

    def __init__(self, rows: Tensor, labels: Tensor, invalid: int | None = None) -> None:
        self.rows, self.labels, self.n_slots, self.invalid = rows, labels, len(rows), invalid
        self.n_read = 0

    def read(self, slots: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        self.n_read += len(slots)
        valid = torch.tensor([int(k) != self.invalid for k in slots])
        return self.rows[slots].reshape(-1, 1, 1, D), self.labels[slots], valid


def made(n: int = N, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(n, D, generator=generator)
    return rows, torch.arange(n) % K, torch.randn(D, K, generator=generator)


def summed(rows: Tensor, labels: Tensor, weights: Tensor, clip_norm: float = 1.0) -> Tensor:
    total = zero_sum({WEIGHTS: weights})
    valid = torch.ones(len(rows), dtype=torch.bool)
    batch = (rows, labels, {})
    add_clipped(total, SoftmaxLoss(), {WEIGHTS: weights}, batch, valid, clip_norm)
    return total[WEIGHTS]


def test_the_sum_is_that_of_the_gradients_of_single_records_clipped_one_by_one() -> None:
    rows, labels, weights = made()
    loss = SoftmaxLoss()
    each = per_record_gradients(loss, {WEIGHTS: weights.double()}, (rows.double(), labels, {}))
    found, norms = each[WEIGHTS], each[WEIGHTS].flatten(1).norm(dim=1)
    clip_norm = float(norms.median())  # some are clipped and some are not
    factors = (clip_norm / MARGIN / norms).clamp(max=1)
    expected = (factors[:, None, None] * found).sum(0)
    torch.testing.assert_close(summed(rows, labels, weights, clip_norm), expected)
    assert engine_of(loss) == "outer products"


WORST = {
    "long": (1e30 * torch.ones(D), 0),
    "longest number": (torch.full((D,), 3e38), 1),
    "infinite": (torch.tensor([math.inf, 1, 1, 1, 1]), 0),
    "no number": (torch.tensor([math.nan, 1, 1, 1, 1]), 2),
    "zero": (torch.zeros(D), 1),
    "short": (1e-30 * torch.ones(D), 1),
}


@pytest.mark.parametrize("size", [1.0, 1e3, 1e30])
@pytest.mark.parametrize("name", list(WORST))
def test_the_worst_record_moves_a_sum_by_the_clip_norm_at_most_whatever_the_weights(
    name: str, size: float
) -> None:
    rows, labels, weights = made()
    row, label = WORST[name]
    without = summed(rows, labels, size * weights)
    added = summed(torch.cat([rows, row[None]]), torch.cat([labels, torch.tensor([label])]),
                   size * weights)  # fmt: skip
    moved = float((added - without).norm())
    assert moved <= 1.0
    if name in ("infinite", "no number", "zero"):
        assert moved == 0.0
    elif name in ("long", "longest number") and size == 1.0:
        assert moved in (0.0, pytest.approx(1 / MARGIN, rel=1e-9))


def test_a_misread_record_is_clipped_and_its_opposite_moves_the_sum_by_twice_the_norm() -> None:
    weights = torch.zeros(D, K)
    weights[1] = torch.tensor([5e4, 0.0, -5e4])  # both rows are taken for class 0, and are of 2
    one, other = (
        summed(torch.tensor([[sign, 0.01, 0, 0, 0]]), torch.tensor([2]), weights)
        for sign in (1.0, -1.0)
    )
    assert float(one.norm()) == pytest.approx(1 / MARGIN, rel=1e-12)  # sqrt(2) without the clip
    assert 1.99 < float((one - other).norm()) <= 2.0


def answers(
    records: Records, objective: Rows, start: int = 0, mechanism: NoisySGD = STEPS,
) -> list[Tensor]:  # fmt: skip
    noise, weights, found = KeyedNoise(bytes(32), "plan"), torch.zeros(D, K), []
    steps = mechanism.steps(records, noise, start=start, micro_batch=7, device=CPU)
    for step in steps:
        found.append(step.gradient(objective, {WEIGHTS: weights})[WEIGHTS])
    return found


def test_every_record_enters_every_step_and_is_read_and_prepared_once() -> None:
    rows, labels, _ = made()
    records, objective = Records(rows, labels), Rows()
    found = answers(records, objective)
    assert len(found) == 3 and records.n_read == N
    # A step alone, which prepares anew, gives the same answer in every bit.
    alone = answers(Records(rows, labels), Rows(), start=2)
    assert torch.equal(alone[0], found[2])


def test_what_was_prepared_for_one_question_is_never_used_for_another() -> None:
    rows, labels, weights = made()
    records = Records(rows, labels)
    steps = STEPS.steps(
        records, Summed(range(N)), start=0, micro_batch=7, device=CPU
    )  # fmt: skip
    first = next(steps).gradient(Rows(), {WEIGHTS: weights})[WEIGHTS]
    second = next(steps).gradient(Rows(factor=0.5), {WEIGHTS: weights})[WEIGHTS]
    assert records.n_read == 2 * N
    assert not torch.allclose(first, second)


def test_with_sampling_nothing_is_kept() -> None:
    rows, labels, _ = made()
    records = Records(rows, labels)
    answers(records, Rows(), mechanism=replace(STEPS, rate=0.999))
    assert records.n_read > 2 * N


def test_an_invalid_record_contributes_nothing() -> None:
    rows, labels, _ = made()
    gone = answers(Records(1e6 * rows[:1], labels[:1], invalid=0), Rows())
    nobody = answers(Records(rows[:0], labels[:0]), Rows())
    # Noise belongs to the sum as well: equal answers mean equal sums.
    assert all(torch.equal(a, b) for a, b in zip(gone, nobody, strict=True))
