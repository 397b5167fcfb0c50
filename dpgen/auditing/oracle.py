"""Sensitivity oracle: the worst gradients that a record could have, through the mechanism itself.

Images have pixels in a range; gradients have none. Here every record's gradient is what the oracle
says, whatever a network would have made of it, so that the clip is all that stands between a record
and the sum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dpgen.privacy.mechanisms import NoisySGD
from dpgen.privacy.noise import KeyedNoise

SHAPES = {"first": (3, 4), "second": (5,), "third": ()}
N_OTHERS = 7


@dataclass(frozen=True)
class Oracle:
    """By gradient, how far its record moves a step's sum, in units of the clip norm."""

    moved: Mapping[str, float]

    @property
    def largest(self) -> float:
        return max(self.moved.values())

    @property
    def passed(self) -> bool:
        return self.largest <= 1


def oracle(mechanism: NoisySGD, *, seed: int = 0) -> Oracle:
    """How far each record of a library moves the first step's sum, alone and among others, in
    micro-batches of one, of a few and of all.
    """
    return Oracle(
        {
            f"{name}, {company}, micro-batch {micro_batch}": _distance(
                _sum(mechanism, others, micro_batch),
                _sum(mechanism, torch.cat([others, gradient[None]]), micro_batch),
            )
            / mechanism.clip_norm
            for company, others in _companies(seed).items()
            for name, gradient in _library(others, seed).items()
            for micro_batch in (1, 3, 16)
        }
    )


def _companies(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    among = torch.randn(N_OTHERS, _size(), generator=generator)
    return {"among others": among, "alone": among[:0]}


def _library(others: Tensor, seed: int) -> dict[str, Tensor]:
    """Gradients (D,) by name."""
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
    """Records whose pixels are their gradient."""

    def __init__(self, gradients: Tensor) -> None:
        self._gradients, self.n_slots = gradients, len(gradients)

    def read(self, slots: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        labels = torch.zeros(len(slots), dtype=torch.int64)
        return self._gradients[slots], labels, torch.ones(len(slots), dtype=torch.bool)


class _Bare(KeyedNoise):
    """Takes down the sums; every record is in the batch."""

    def __init__(self) -> None:
        super().__init__(bytes(32), "oracle")
        self.before: dict[str, Tensor] = {}

    def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        self.before[name] = total.clone()
        return super().add(total, std, release=release, name=name)

    def coins(self, n: int, rate: float, *, release: int) -> np.ndarray:
        return np.arange(n, dtype=np.int64)


def _sum(mechanism: NoisySGD, gradients: Tensor, micro_batch: int) -> Tensor:
    """What a step adds up before its noise, for records with these gradients, (D,) float64."""
    parameters = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    sizes = [math.prod(shape) for shape in SHAPES.values()]

    def loss(held: dict[str, Tensor], pixels: Tensor, label: Tensor, draws: object) -> Tensor:
        parts = pixels.split(sizes)
        terms = [(held[n].reshape(-1) * g).sum() for n, g in zip(SHAPES, parts, strict=True)]
        return torch.stack(terms).sum()

    noise = _Bare()
    step = next(
        mechanism.steps(
            _Told(gradients), noise, start=0, micro_batch=micro_batch,
            device=torch.device("cpu"),
        )  # fmt: skip
    )
    step.gradient(loss, lambda generator: {"none": np.zeros(1)}, parameters)
    return torch.cat([noise.before[name].reshape(-1) for name in SHAPES])


def _distance(one: Tensor, other: Tensor) -> float:
    gap = (one - other).norm().item()
    return gap if math.isfinite(gap) else math.inf
