"""Sensitivity oracle: passes the worst possible contributions of a record through the mechanism.

Pixels have a range; gradients have none. Here every record's gradient, or its statistic, is chosen
by the oracle and not computed by a network, so that only the clip bounds a record's effect on the
sum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from dpgen.auditing.overheard import bound
from dpgen.auditing.silos import numbered
from dpgen.privacy.mechanisms.contributions import Block
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum, OfRecords
from dpgen.privacy.mechanisms.draws import Draws
from dpgen.privacy.mechanisms.ensemble import NoisyEnsemble
from dpgen.privacy.mechanisms.gradients import LossFn
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.privacy.mechanisms.noisy_ensemble import ANSWER
from dpgen.privacy.mechanisms.softmax import WEIGHTS, SoftmaxLoss
from dpgen.privacy.mechanisms.teachers import Teacher

SHAPES = {"first": (3, 4), "second": (5,), "third": ()}
N_OTHERS = 7
SIZES = (1, 3, 16)  # of micro-batches; numbers of shards


@dataclass(frozen=True)
class Oracle:
    """How far a record moves a release's sum, in units of the bound, by name of its contribution.
    """

    moved: Mapping[str, float]

    @property
    def largest(self) -> float:
        return max(self.moved.values())

    @property
    def passed(self) -> bool:
        return self.largest <= 1


def oracle(
    mechanism: OfRecords, *, loss: LossFn | None = None, seed: int = 0
) -> Oracle:
    """Measures how far each record of a library moves the first release's sum, alone and among
    others, in micro-batches of one, of a few and of all; the teachers of an ensemble answer with
    the sum of what their records send in, in one shard, in a few and in more than there are
    records.

    Args:
        mechanism: a step of it, or its release.
        loss: the stage's own loss. Where its gradients are outer products, the contributions are
            one of their factors, at weights which take a record for what it is not.
        seed: seed of the library.
    """
    unit = "shards" if isinstance(mechanism, NoisyEnsemble) else "micro-batch"
    return Oracle(
        {
            f"{name}, {company}, {unit} {micro_batch}": _distance(
                _sum_before_noise(mechanism, others, micro_batch, loss),
                _sum_before_noise(mechanism, torch.cat([others, sent[None]]), micro_batch, loss),
            )
            / bound(mechanism)
            for company, others in _companies(seed).items()
            for name, sent in _library(others, seed).items()
            for micro_batch in SIZES
        }
    )


def _companies(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    among = torch.randn(N_OTHERS, _size(), generator=generator)
    return {"among others": among, "alone": among[:0]}


def _library(others: Tensor, seed: int) -> dict[str, Tensor]:
    """Makes the contributions of a record, (D,), by name."""
    generator = torch.Generator().manual_seed(seed + 1)
    direction = torch.randn(_size(), generator=generator)
    layer = torch.zeros(_size())
    layer[-1] = 1e6
    found = {
        "ordinary": direction,
        "huge": 1e30 * direction,
        "tiny": 1e-30 * direction,
        "zero": 0 * direction,
        "infinite": torch.where(direction > 0, math.inf, direction),
        "not a number": torch.where(direction > 0, math.nan, direction),
        "in one layer": layer,
    }
    if len(others):
        found["opposed to the others"] = -1e3 * others.mean(0)
        found["a copy of another"] = others[0].clone()
    return found


def _size() -> int:
    return sum(math.prod(shape) for shape in SHAPES.values())


class _Told:
    """Records whose pixels are their contributions, dealt to silos in turn."""

    def __init__(self, sent: Tensor, n_silos: int = 1) -> None:
        self._sent, self.n_slots, self._n_silos = sent, len(sent), n_silos

    def silo_of(self, slots: np.ndarray) -> np.ndarray:
        return np.asarray(slots % self._n_silos)

    def read(self, slots: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        labels = torch.zeros(len(slots), dtype=torch.int64)
        return self._sent[slots], labels, torch.ones(len(slots), dtype=torch.bool)


class _Bare(KeyedNoise):
    """A noise source that records the sums and adds no noise; every record is in the batch."""

    def __init__(self) -> None:
        super().__init__(bytes(32), "oracle")
        self.before: dict[str, Tensor] = {}

    def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        self.before[name] = total.clone()
        return super().add(total, std, release=release, name=name)

    def coins(self, n: int, rate: float, *, release: int) -> np.ndarray:
        return np.arange(n, dtype=np.int64)

    def heard(self) -> Tensor:
        """Returns all sums in one vector; infinity where there was none, so that a missing release
        is detected.
        """
        nothing = torch.tensor([math.inf])
        return torch.cat([self.before.get(name, nothing).reshape(-1) for name in SHAPES])


@dataclass(frozen=True)
class _Sent:
    """A statistic that is a record's contribution, with a table for each part."""

    bound: float
    settings: ClassVar[dict[str, Any]] = {"statistic": "sent in"}

    @property
    def tables(self) -> dict[str, tuple[int, int]]:
        return {name: (1, math.prod(shape)) for name, shape in SHAPES.items()}

    def __call__(self, pixels: Tensor, labels: Tensor) -> dict[str, Block]:
        parts = pixels.split([math.prod(shape) for shape in SHAPES.values()], dim=1)
        return {name: Block(part, labels) for name, part in zip(SHAPES, parts, strict=True)}


@dataclass(frozen=True)
class _SentGradient:
    """A loss whose gradient is the record's contribution."""

    def draw(self, draws: Draws) -> dict[str, Tensor]:
        return {}

    def loss(
        self, parameters: dict[str, Tensor], pixels: Tensor, label: Tensor, draws: object
    ) -> Tensor:
        parts = pixels.split([math.prod(shape) for shape in SHAPES.values()])
        pairs = zip(SHAPES, parts, strict=True)
        return torch.stack([(parameters[n].reshape(-1) * g).sum() for n, g in pairs]).sum()


@dataclass(frozen=True)
class _SentAnswer:
    """Trains teachers that answer with the sum of their records' contributions."""

    shape: tuple[int, ...]

    def __call__(self, pixels: Tensor, labels: Tensor, valid: Tensor, seed: int) -> Teacher:
        total = pixels[valid].sum(0).reshape(self.shape)
        return lambda queries: total.expand(len(queries), *self.shape)


@dataclass(frozen=True)
class _SentRow:
    """A loss of softmax regression whose records are their contributions."""

    def draw(self, draws: Draws) -> dict[str, Tensor]:
        return {}

    @property
    def loss(self) -> SoftmaxLoss:
        return SoftmaxLoss()


def _sum_before_noise(
    mechanism: OfRecords, sent: Tensor, micro_batch: int, loss: LossFn | None
) -> Tensor:
    """Returns the sum of the first release before its noise, (D,), for records with these
    contributions. An ensemble has as many shards as the others have rows in a micro-batch.
    """
    if isinstance(mechanism, NoisyEnsemble):
        return _sum_of_answers(mechanism, sent, micro_batch)
    if isinstance(mechanism, NoisySGD) and isinstance(loss, SoftmaxLoss):
        return _sum_of_products(mechanism, sent, micro_batch)
    if isinstance(mechanism, NoisySGD):
        return _sum_of_step(mechanism, sent, micro_batch)
    return _sum_of_release(mechanism, sent, micro_batch)


def _sum_of_release(mechanism: NoisySum, sent: Tensor, micro_batch: int) -> Tensor:
    """Returns the sum of a release before its noise, (D,) float64, for records with these
    contributions.
    """
    noise = _Bare()
    told = replace(mechanism, statistic=_Sent(mechanism.statistic.bound))
    told.release(_Told(sent), noise, micro_batch=micro_batch)
    return noise.heard()


def _sum_of_answers(mechanism: NoisyEnsemble, sent: Tensor, n_shards: int) -> Tensor:
    """Returns the sum of all answers to one query before its noise, flattened, float64."""
    noise, n_numbers = _Bare(), math.prod(mechanism.answer.shape)
    silos = numbered(mechanism.silos, n_shards)
    few = replace(mechanism, n_shards=n_shards, n_queries=1, silos=silos)
    # Contributions that are long enough for an answer, so that each number is some of a record's.
    wide = sent.repeat(1, math.ceil(n_numbers / _size()))[:, :n_numbers]
    fit = _SentAnswer(tuple(mechanism.answer.shape))
    few.ensemble(_Told(wide, n_shards), noise, fit, seed=0).ask(torch.zeros(1, 1, 1, 1))
    return noise.before.get(ANSWER, torch.tensor([math.inf])).reshape(-1)


def _sum_of_step(mechanism: NoisySGD, gradients: Tensor, micro_batch: int) -> Tensor:
    """Returns the sum of a step before its noise, (D,) float64, for records with these gradients.
    """
    parameters = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    noise = _Bare()
    step = next(
        mechanism.steps(
            _Told(gradients), noise, start=0, micro_batch=micro_batch,
            device=torch.device("cpu"),
        )  # fmt: skip
    )
    step.gradient(_SentGradient(), parameters)
    return noise.heard()


def _sum_of_products(mechanism: NoisySGD, rows: Tensor, micro_batch: int) -> Tensor:
    """Returns the sum of a step before its noise, (3 D,) float64, for these rows of class 0, which
    the weights take for class 1 or 2 by the sign of their first number.
    """
    weights = torch.zeros(_size(), 3)
    weights[0] = torch.tensor([0.0, 1e3, -1e3])
    noise = _Bare()
    step = next(
        mechanism.steps(
            _Told(rows), noise, start=0, micro_batch=micro_batch, device=torch.device("cpu")
        )  # fmt: skip
    )
    step.gradient(_SentRow(), {WEIGHTS: weights})
    return noise.before.get(WEIGHTS, torch.tensor([math.inf])).reshape(-1)


def _distance(one: Tensor, other: Tensor) -> float:
    if one.shape != other.shape:
        return math.inf
    gap = (one - other).norm().item()
    return gap if math.isfinite(gap) else math.inf
