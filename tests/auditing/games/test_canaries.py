from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from dpgen.auditing.games.canaries import CanaryStatistic, canary_scores
from dpgen.privacy.mechanisms.clipping import MARGIN
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum
from dpgen.privacy.mechanisms.noise import KeyedNoise

pytestmark = pytest.mark.usefixtures("one_thread")

SGD = NoisySGD(1.0, 3, 2.0, n_records=50, clip_norm=0.7)
SUM = NoisySum(CanaryStatistic(bound=30.0, n_directions=1), 2.0)
MECHANISMS = pytest.mark.parametrize("mechanism", [SGD, SUM], ids=["sgd", "sum"])
VERSIONS = np.array([1.0, 0.0, -1.0, 1.0, 0.0])


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    def add(self: KeyedNoise, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        return total.double()

    monkeypatch.setattr(KeyedNoise, "add", add)


@MECHANISMS
@pytest.mark.parametrize("n_others", [0, 7])
@pytest.mark.parametrize("micro_batch", [1, 4, 64])
@pytest.mark.usefixtures("silent")
def test_a_canary_moves_a_release_by_all_that_the_clip_allows_and_no_other_score(
    mechanism: NoisySGD | NoisySum, n_others: int, micro_batch: int
) -> None:
    scores = canary_scores(mechanism, VERSIONS, n_others=n_others, micro_batch=micro_batch)
    # Answers are float32 and lie within 1 of zero, before they are scaled by 1 / 0.7.
    assert scores == pytest.approx(VERSIONS * mechanism.n_releases / MARGIN, abs=1e-6)


@MECHANISMS
def test_scores_have_the_noise_of_the_mechanism(mechanism: NoisySGD | NoisySum) -> None:
    m = 4000
    scores = canary_scores(mechanism, np.zeros(m))
    std = 2.0 * math.sqrt(mechanism.n_releases)
    assert abs(scores.std() / std - 1) < 5 / math.sqrt(2 * m)
    assert abs(scores.mean()) < 5 * std / math.sqrt(m)


@pytest.mark.usefixtures("silent")
def test_a_sampled_canary_counts_its_samples() -> None:
    n_steps, rate, m = 40, 0.25, 200
    mechanism = replace(SGD, rate=rate, n_steps=n_steps)
    counts = canary_scores(mechanism, np.ones(m)) * MARGIN
    assert counts == pytest.approx(counts.round(), abs=1e-4)
    se = math.sqrt(n_steps * rate * (1 - rate) / m)
    assert abs(counts.mean() - n_steps * rate) < 5 * se
    assert len(set(counts.round())) > 3


@MECHANISMS
def test_every_run_has_a_key_of_its_own(mechanism: NoisySGD | NoisySum) -> None:
    torch.manual_seed(0)
    first = canary_scores(mechanism, VERSIONS)
    torch.manual_seed(0)
    assert not (canary_scores(mechanism, VERSIONS) == first).any()


@MECHANISMS
def test_every_release_is_counted(mechanism: NoisySGD | NoisySum) -> None:
    calls: list[int] = []
    canary_scores(mechanism, VERSIONS, advance=lambda: calls.append(1))
    assert len(calls) == mechanism.n_releases


@pytest.mark.usefixtures("silent")
def test_a_game_without_records_is_played_too() -> None:
    assert canary_scores(SGD, np.zeros(1)).tolist() == [0.0]
