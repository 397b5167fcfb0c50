from __future__ import annotations

import inspect
import json
import math
import random
from collections.abc import Callable
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from scipy.special import ndtr
from torch import Tensor

from dpgen.auditing.games import canaries
from dpgen.auditing.games.bounds import gaussian_epsilon, proportion_high, proportion_low
from dpgen.auditing.games.canaries import CanaryStatistic
from dpgen.auditing.games.claims import Claim, GaussianBlowUp
from dpgen.auditing.games.power import two_world_power
from dpgen.auditing.games.two_world import TwoWorld, TwoWorldGame
from dpgen.auditing.games.white_box import sharpened, two_world
from dpgen.privacy.accounting.accountant import Adjacency
from dpgen.privacy.mechanisms import clipping, noisy_sum, shares
from dpgen.privacy.mechanisms.clipping import Parameters
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum
from dpgen.privacy.mechanisms.noise import KeyedNoise

pytestmark = pytest.mark.usefixtures("one_thread")

DELTA = 1e-5
SGD = NoisySGD(0.1, 300, 3.0, n_records=500, clip_norm=0.7)
SUM = NoisySum(CanaryStatistic(bound=3.0, n_directions=1), 5.0)


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh keys, the same ones every time the test runs."""
    source = random.Random(0)
    monkeypatch.setattr(canaries, "new_key", lambda: source.randbytes(32))


def claim(mu: float) -> Claim:
    return Claim(gaussian_epsilon(mu, DELTA), DELTA, "add_remove", GaussianBlowUp(mu), "simulated")


def accused(game: TwoWorldGame, run: Callable[[bool], float], n_plays: int) -> float:
    return float(np.mean([not game.play(run).passed for _ in range(n_plays)]))


def at_most(alpha: float, n: int) -> float:
    return alpha + 3 * math.sqrt(alpha * (1 - alpha) / n)


@pytest.mark.parametrize("mu", [0.268, 2.0])
def test_a_gaussian_at_its_true_mu_is_accused_as_rarely_as_claimed(mu: float) -> None:
    rng = np.random.default_rng(1)
    game = TwoWorldGame(claim(mu), 60, alpha=0.05)
    rate = accused(game, lambda world: mu * world + rng.standard_normal(), 2000)
    assert rate <= at_most(0.05, 2000)


def test_half_the_noise_is_refuted_with_the_stated_power() -> None:
    rng, game = np.random.default_rng(3), TwoWorldGame(claim(1.0), 1000)
    assert game.detectable_mu < 2
    assert two_world_power(game.n_test, game.alpha, game.claim.blow_up, 2.0) > 0.99
    assert accused(game, lambda world: 2.0 * world + rng.standard_normal(), 200) >= 0.99


def test_the_threshold_comes_from_runs_that_do_not_count() -> None:
    scores = iter([float(i) for i in range(80)])
    found = TwoWorldGame(claim(1.0), 40).play(lambda world: next(scores))
    # Runs alternate: the first ten without are 0, 2, .. 18, those with are 1, 3, .. 19.
    assert found.threshold == (9 + 10) / 2
    assert (found.n_test, found.true_positives, found.false_positives) == (30, 30, 30)
    assert list(inspect.signature(TwoWorldGame.play).parameters) == ["self", "run", "advance"]
    assert "threshold" not in {
        *inspect.signature(TwoWorldGame).parameters,
        *inspect.signature(two_world).parameters,
    }
    with pytest.raises(FrozenInstanceError):
        found.threshold = 0.0  # type: ignore[misc]


def test_both_worlds_run_as_often_as_was_fixed() -> None:
    worlds: list[bool] = []
    calls: list[int] = []

    def run(world: bool) -> float:
        worlds.append(world)
        return 0.0

    TwoWorldGame(claim(1.0), 7).play(run, lambda: calls.append(1))
    assert worlds == [False, True] * 7 and len(calls) == 14


def test_impossible_games_are_refused() -> None:
    with pytest.raises(ValueError, match="n_runs must be at least 4, got 3"):
        TwoWorldGame(claim(1.0), 3)
    with pytest.raises(ValueError, match=r"alpha must lie in \(0, 1\), got 1"):
        TwoWorldGame(claim(1.0), 10, alpha=1)
    with pytest.raises(ValueError, match="scores must be finite numbers"):
        TwoWorldGame(claim(1.0), 10).play(lambda world: math.inf)


def test_the_curve_is_that_of_the_scores_with_what_the_claim_allows_beside_it() -> None:
    rng = np.random.default_rng(4)
    found = TwoWorldGame(claim(1.0), 4000).play(lambda world: world + rng.standard_normal())
    false, true = np.array(found.false_positive_rates), np.array(found.true_positive_rates)
    assert false[0] == true[0] == 0.0 and (np.diff(false) >= 0).all() and (np.diff(true) >= 0).all()
    # True mu 1: the curve lies on its limit, up to 5 standard errors of both rates.
    assert np.abs(true - np.array(found.limits)).max() < 5 * math.sqrt(2 * 0.25 / 3000)
    assert true[-1] > 0.98
    assert found.tpr_low == proportion_low(found.true_positives, 3000, 0.0005)
    assert found.fpr_high == proportion_high(found.false_positives, 3000, 0.0005)


@pytest.mark.parametrize(("adjacency", "scale"), [("add_remove", 1.0), ("replace_one", 2.0)])
def test_a_sharpened_mechanism_claims_the_mu_it_was_given(
    adjacency: Adjacency, scale: float
) -> None:
    sgd, sum_ = (sharpened(m, adjacency, mu=0.8) for m in (SGD, SUM))
    assert isinstance(sgd, NoisySGD) and isinstance(sum_, NoisySum)
    assert sgd.noise_multiplier == pytest.approx(scale * math.sqrt(2) / 0.8)
    assert (sgd.rate, sgd.n_steps) == (1.0, 2)
    assert (sgd.clip_norm, sgd.n_records) == (SGD.clip_norm, SGD.n_records)
    assert sum_.statistic == SUM.statistic
    for mechanism in (sgd, sum_):
        blow_up = two_world(mechanism, adjacency=adjacency, delta=DELTA, n_runs=4).claim.blow_up
        assert isinstance(blow_up, GaussianBlowUp) and blow_up.mu == pytest.approx(0.8)


def played(
    mechanism: NoisySGD | NoisySum,
    n_runs: int,
    adjacency: Adjacency = "add_remove",
    n_steps: int = 2,
) -> TwoWorld:
    sharp = sharpened(mechanism, adjacency, n_steps=n_steps)
    return two_world(sharp, adjacency=adjacency, delta=DELTA, n_runs=n_runs)


MECHANISMS = pytest.mark.parametrize("mechanism", [SGD, SUM], ids=["sgd", "sum"])


@MECHANISMS
@pytest.mark.parametrize("adjacency", ["add_remove", "replace_one"])
def test_the_production_mechanisms_keep_their_claims(
    mechanism: NoisySGD | NoisySum, adjacency: Adjacency
) -> None:
    found = played(mechanism, 120 if mechanism is SGD else 600, adjacency)
    assert found.passed and found.mu_low < 1
    assert found.sentence.startswith("no violation found; by (epsilon, delta) epsilon < ")
    by_pair, by_curve = found.bounds
    assert by_pair.refuted <= by_curve.refuted and by_pair.detectable >= by_curve.detectable
    assert json.loads(json.dumps(found.numbers))["false_positives"] == found.false_positives
    # The canary does show all that is claimed, within 3 standard errors of two rates.
    rates = np.array(found.true_positive_rates) - np.array(found.false_positive_rates)
    assert abs(rates.max() - (2 * ndtr(0.5) - 1)) < 3 * math.sqrt(2 * 0.25 / found.n_test)


def halved(self: KeyedNoise, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
    return HONEST(self, total, std / 2, release=release, name=name)


def bare(noise: KeyedNoise, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
    """Noise that knows neither the question nor the sum: what other noise would repeat."""
    return HONEST(noise.for_question(""), torch.zeros_like(total), std, release=release, name=name)


def same_for_every_release(
    self: KeyedNoise, total: Tensor, std: float, *, release: int, name: str
) -> Tensor:
    return total.double() + bare(self, total, std, release=0, name=name)


def same_for_every_tensor(
    self: KeyedNoise, total: Tensor, std: float, *, release: int, name: str
) -> Tensor:
    return total.double() + bare(self, total, std, release=release, name="")


def same_for_every_key(
    self: KeyedNoise, total: Tensor, std: float, *, release: int, name: str
) -> Tensor:
    return total.double() + bare(KeyedNoise(bytes(32), ""), total, std, release=release, name=name)


HONEST = KeyedNoise.add


@MECHANISMS
def test_half_the_noise_is_caught(
    monkeypatch: pytest.MonkeyPatch, mechanism: NoisySGD | NoisySum
) -> None:
    monkeypatch.setattr(KeyedNoise, "add", halved)
    found = played(mechanism, 400, n_steps=1)
    assert two_world_power(found.n_test, found.alpha, found.claim.blow_up, 2.0) > 0.99
    assert not found.passed and found.mu_low > 1
    assert found.sentence.startswith("VIOLATION")


@pytest.mark.parametrize("add", [same_for_every_tensor, same_for_every_key])
@MECHANISMS
def test_noise_that_is_used_twice_is_caught(
    monkeypatch: pytest.MonkeyPatch, mechanism: NoisySGD | NoisySum, add: Callable[..., Tensor]
) -> None:
    monkeypatch.setattr(KeyedNoise, "add", add)
    found = played(mechanism, 40)
    assert not found.passed and found.true_positives == 30 and found.false_positives == 0


def test_noise_that_is_the_same_in_every_step_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KeyedNoise, "add", same_for_every_release)
    assert not played(SGD, 40).passed


@pytest.mark.parametrize(
    ("mechanism", "module"), [(SGD, clipping), (SUM, noisy_sum)], ids=["sgd", "sum"]
)
def test_a_forgotten_clip_is_caught(
    monkeypatch: pytest.MonkeyPatch, mechanism: NoisySGD | NoisySum, module: object
) -> None:
    monkeypatch.setattr(module, "clip_factors", lambda norms, clip_norm: torch.ones_like(norms))
    assert not played(mechanism, 40).passed


def test_a_clip_of_the_micro_batch_in_place_of_each_record_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = clipping.add_clipped

    def of_the_mean(total: Parameters, *given: object) -> None:
        *rest, valid, clip_norm = given
        part = {name: torch.zeros_like(sum_) for name, sum_ in total.items()}
        honest(part, *rest, valid, 1e9)  # type: ignore[arg-type]
        n = int(valid.sum())  # type: ignore[attr-defined]
        norm = math.sqrt(sum(float(p.square().sum()) for p in part.values())) / n
        for name in total:
            total[name] += part[name] * min(1.0, float(clip_norm) / norm)  # type: ignore[arg-type]

    monkeypatch.setattr(shares, "add_clipped", of_the_mean)
    # The canary comes through four times as large, which is the size of its micro-batch.
    assert not played(SGD, 100).passed
