"""White-box canaries: made-up records that move a release by as much as its clip lets through, each
in a direction of its own.

They go through the production mechanism: its coins, its clip, its noise, its denominator. Three
things make them sensitive to bugs. A canary's gradient has ten times the clip norm, so a missing
clip is detected. Its direction lies half in one tensor and half, with the opposite sign, in a
second one, so noise that two tensors share cancels in its score. And the direction changes sign
from step to step, so noise that two steps share cancels too. Under a correct mechanism each
canary's score has the same distribution as if it were alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpgen.auditing.games.shard_canaries import ensemble_scores
from dpgen.privacy.mechanisms.contributions import Block
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum, OfRecords
from dpgen.privacy.mechanisms.draws import Draws
from dpgen.privacy.mechanisms.ensemble import NoisyEnsemble
from dpgen.privacy.mechanisms.noise import KeyedNoise, new_key

EXCESS = 10.0  # norm of a canary's gradient, in units of the clip norm
OTHER = 0.01  # norm of another record's, relative to a canary's: exposes a clip of the mean
TENSORS = {"first": math.sqrt(0.5), "second": -math.sqrt(0.5)}
MICRO_BATCH = 64
CPU = torch.device("cpu")


def canary_scores(
    mechanism: OfRecords,
    versions: np.ndarray,
    *,
    n_others: int = 0,
    micro_batch: int = MICRO_BATCH,
    advance: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Runs ``mechanism`` once, under a fresh key, and scores each canary from its releases.

    Args:
        versions: (m,), the version of each canary: 1, -1 (the opposite record) or 0 (absent).
        n_others: number of records that are always present, in directions of their own; an ensemble
            has one in every shard.
        advance: called after each release; there are ``mechanism.n_releases``.

    Returns:
        (m,) float64: the sum over releases of the answer along each canary's direction, before the
        division by the expected batch, in units of the clip norm or the diameter. A canary that is
        present moves its score by 1 for each release that it is sampled in.
    """
    noise = KeyedNoise(new_key(), "audit")
    if isinstance(mechanism, NoisyEnsemble):
        return ensemble_scores(mechanism, versions, noise, advance)
    records = Canaries(versions, n_others)
    if isinstance(mechanism, NoisySGD):
        return _sgd_scores(mechanism, records, noise, micro_batch, advance)[: len(versions)]
    return _sum_scores(mechanism, records, noise, micro_batch, advance)[: len(versions)]


class Canaries:
    """Records: the one pixel of each is its version, its label is its direction."""

    def __init__(self, versions: np.ndarray, n_others: int) -> None:
        versions = np.append(versions, np.full(n_others, OTHER))
        self.n_directions = len(versions)
        self._there = torch.from_numpy(np.flatnonzero(versions))
        self._pixels = torch.from_numpy(versions).float()[self._there].reshape(-1, 1, 1, 1)

    @property
    def n_slots(self) -> int:
        return len(self._there)

    def read(self, slots: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        return self._pixels[slots], self._there[slots], torch.ones(len(slots), dtype=torch.bool)


def _sgd_scores(
    mechanism: NoisySGD,
    records: Canaries,
    noise: KeyedNoise,
    micro_batch: int,
    advance: Callable[[], None],
) -> np.ndarray:
    parameters = {name: torch.zeros(records.n_directions) for name in TENSORS}
    scale = mechanism.expected_batch / mechanism.clip_norm
    scores = np.zeros(records.n_directions)
    steps = mechanism.steps(records, noise, start=0, micro_batch=micro_batch, device=CPU)
    for step in steps:
        turn = -1.0 if step.index % 2 else 1.0
        objective = CanaryObjective(turn * EXCESS * mechanism.clip_norm)
        answer = step.gradient(objective, parameters)
        scores += turn * scale * _along(answer)
        advance()
    return scores


@dataclass(frozen=True)
class CanaryObjective:
    """A loss whose gradient is ``size`` along the direction of the record."""

    size: float

    def draw(self, draws: Draws) -> dict[str, Tensor]:
        return {}

    def loss(
        self, parameters: dict[str, Tensor], pixels: Tensor, label: Tensor, draws: object
    ) -> Tensor:
        along = [part * parameters[name] for name, part in TENSORS.items()]
        picked = (torch.arange(len(along[0])) == label).float()
        return self.size * pixels.sum() * (torch.stack(along).sum(0) * picked).sum()


def _along(answer: dict[str, Tensor]) -> np.ndarray:
    """Projects the answer on each direction, (n_directions,)."""
    parts = [part * answer[name].double().flatten() for name, part in TENSORS.items()]
    return torch.stack(parts).sum(0).numpy()


@dataclass(frozen=True)
class CanaryStatistic:
    """A statistic of canaries only: each has a row of its own in two tables.

    Args:
        bound: bound of the statistic that it replaces.
        n_directions: number of rows.
    """

    bound: float
    n_directions: int

    @property
    def tables(self) -> dict[str, tuple[int, int]]:
        return dict.fromkeys(TENSORS, (self.n_directions, 1))

    @property
    def settings(self) -> dict[str, Any]:
        return {"statistic": "canaries", **asdict(self)}

    def __call__(self, pixels: Tensor, labels: Tensor) -> dict[str, Block]:
        versions = EXCESS * self.bound * pixels.reshape(-1, 1)
        return {name: Block(part * versions, labels) for name, part in TENSORS.items()}


def _sum_scores(
    mechanism: NoisySum,
    records: Canaries,
    noise: KeyedNoise,
    micro_batch: int,
    advance: Callable[[], None],
) -> np.ndarray:
    bound = mechanism.statistic.bound
    statistic = CanaryStatistic(bound, records.n_directions)
    tables = replace(mechanism, statistic=statistic).release(
        records, noise, micro_batch=micro_batch
    )
    advance()
    return _along(tables) / bound
