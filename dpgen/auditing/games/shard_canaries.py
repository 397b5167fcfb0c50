"""White-box canaries of an ensemble: records that turn the answer of their shard around.

Each canary has two shards of its own, in a direction of its own, and each shard holds a record that
is always there. A teacher answers +u or -u, u the direction times ten diameters, so that a missing
clip is detected: +u where the canary is in its first shard, or where the opposite record is not in
the second one. Adding the canary therefore moves an answer by the whole diameter, and replacing it
by the opposite record two answers. The sign alternates from query to query, so that noise which two
queries share cancels in the score.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dpgen.privacy.mechanisms.ensemble import Ball, NoisyEnsemble
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.privacy.mechanisms.sharding import shard_slots
from dpgen.privacy.mechanisms.teachers import Teacher

EXCESS = 10.0  # norm of an answer, in units of the diameter
BYSTANDER, CANARY = 0, 1  # labels
BLOCK = 16  # candidates for each shard that are drawn at once


def ensemble_scores(
    mechanism: NoisyEnsemble,
    versions: np.ndarray,
    noise: KeyedNoise,
    advance: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Runs the mechanism once and scores each canary from its answers, (m,) float64 in units of the
    diameter: a canary that is present moves its score by 1 for each query.

    Args:
        versions: (m,), the version of each canary: 1, -1 (the opposite record) or 0 (absent).
        noise: under it every canary gets shards of its own.
        advance: called after each query.
    """
    m = len(versions)
    # Silos would say where a canary is; a hash has to find a shard for each.
    wide = replace(
        mechanism, answer=Ball((m,), mechanism.answer.diameter / 2), n_shards=2 * m,
        n_records=4 * m, silos=None,
    )  # fmt: skip
    records, fit = _placed(wide, versions, noise)
    ensemble = wide.ensemble(records, noise, fit, seed=0)
    scores = np.zeros(m)
    for query in range(mechanism.n_queries):
        turn = -1.0 if query % 2 else 1.0
        answer = ensemble.ask(torch.full((1, 1, 1, 1), turn))[0].numpy()
        scores += turn * answer / wide.answer.diameter
        advance()
    return scores


def _placed(
    mechanism: NoisyEnsemble, versions: np.ndarray, noise: KeyedNoise
) -> tuple[_Numbered, _Turning]:
    """Returns records, a bystander in every shard and the canaries that are present, and the
    function that trains their teachers.
    """
    m, n_shards = len(versions), mechanism.n_shards
    homes: dict[tuple[int, int], int] = {}
    roomy = replace(mechanism, n_records=2**40)
    for first in itertools.count(0, BLOCK * n_shards):
        numbers = np.arange(first, first + BLOCK * n_shards)
        for label in (BYSTANDER, CANARY):
            drawn = _Numbered(numbers, np.full(len(numbers), label))
            for shard, slots in enumerate(shard_slots(roomy, drawn, noise)):
                if len(slots):
                    homes.setdefault((label, shard), int(numbers[slots[0]]))
        if len(homes) == 2 * n_shards:
            break
    own = [homes[BYSTANDER, shard] for shard in range(n_shards)]
    for canary, version in enumerate(versions):
        if version:
            own.append(homes[CANARY, canary + (m if version < 0 else 0)])
    labels = [BYSTANDER] * n_shards + [CANARY] * (len(own) - n_shards)
    shards = torch.tensor([homes[BYSTANDER, shard] for shard in range(n_shards)])
    size = EXCESS * mechanism.answer.diameter
    return _Numbered(np.array(own), np.array(labels)), _Turning(shards, size)


class _Numbered:
    """Records whose one pixel is their number; all are valid."""

    def __init__(self, numbers: np.ndarray, labels: np.ndarray) -> None:
        self._numbers, self._labels = torch.from_numpy(numbers), torch.from_numpy(labels)

    @property
    def n_slots(self) -> int:
        return len(self._numbers)

    def read(self, slots: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        pixels = self._numbers[slots].float().reshape(-1, 1, 1, 1)
        return pixels, self._labels[slots], torch.ones(len(slots), dtype=torch.bool)


@dataclass(frozen=True)
class _Turning:
    """Trains teachers that answer +u or -u, by whether a canary is in their shard.

    Args:
        bystanders: (2 m,), the number of the record that is always in a shard, by shard.
        size: norm of an answer.
    """

    bystanders: Tensor
    size: float

    def __call__(self, pixels: Tensor, labels: Tensor, valid: Tensor, seed: int) -> Teacher:
        numbers, m = pixels.flatten(), len(self.bystanders) // 2
        own = numbers[valid & (labels == BYSTANDER)][0]
        shard = int((self.bystanders == own).nonzero()[0, 0])
        there = bool((valid & (labels == CANARY)).any())
        sign = 1.0 if there == (shard < m) else -1.0

        def teacher(queries: Tensor) -> Tensor:
            answer = torch.zeros(len(queries), m)
            answer[:, shard % m] = sign * self.size * queries.flatten()
            return answer

        return teacher
