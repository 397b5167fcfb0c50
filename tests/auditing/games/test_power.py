from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import binom

from dpgen.auditing.games.bounds import gaussian_epsilon, proportion_high, proportion_low
from dpgen.auditing.games.claims import Claim, GaussianBlowUp
from dpgen.auditing.games.one_run import OneRunGame, _n_correct
from dpgen.auditing.games.power import (
    PROBABILITY,
    Bound,
    detectable_mu,
    one_run_power,
    power_sentence,
    two_world_power,
)
from dpgen.auditing.games.two_world import TwoWorldGame

DELTA = 1e-5
N_PLAYS = 400


def claim(mu: float) -> Claim:
    return Claim(gaussian_epsilon(mu, DELTA), DELTA, "add_remove", GaussianBlowUp(mu), "simulated")


def accused(play: Callable[[], bool]) -> float:
    return float(np.mean([play() for _ in range(N_PLAYS)]))


# 3 standard errors of a share of 0.9, and what the formulae neglect.
SLACK = 3 * math.sqrt(0.09 / N_PLAYS) + 0.02


@pytest.mark.parametrize(
    ("m", "n_guesses", "mu"), [(1000, 100, 0.27), (1000, 1000, 1.0), (500, 250, 1.0)]
)
def test_one_run_games_detect_what_they_say_as_often_as_they_say(
    m: int, n_guesses: int, mu: float
) -> None:
    game = OneRunGame(claim(mu), m, n_guesses)
    rng = np.random.default_rng(m + n_guesses)
    truth = game.detectable_mu

    def play() -> bool:
        return not game.play(lambda coins: truth * coins + rng.standard_normal(m)).passed

    assert accused(play) == pytest.approx(PROBABILITY, abs=SLACK)


@pytest.mark.parametrize(
    ("m", "n_guesses", "fewest", "mu"),
    [
        (100, 50, 49, 2.5), (100, 100, 98, 4.6), (300, 60, 57, 1.7), (300, 150, 141, 2.0),
        (300, 240, 204, 1.9),
    ],
)  # fmt: skip
def test_the_power_of_one_run_is_that_of_simulated_games_with_few_canaries_too(
    m: int, n_guesses: int, fewest: int, mu: float
) -> None:
    rng, n = np.random.default_rng(m + n_guesses), 6000
    coins = rng.random((n, m)) < 0.5
    games = zip(coins, mu * coins + rng.standard_normal((n, m)), strict=True)
    seen = np.mean([_n_correct(c, s, n_guesses) >= fewest for c, s in games])
    # 3 standard errors and what is neglected. Guesses that end at fixed scores, not at the order
    # statistics of a run, are right too often: the first game says 0.035 too much then.
    assert 0.7 < seen < 0.97
    said = one_run_power(m, n_guesses, fewest, mu)
    assert said == pytest.approx(seen, abs=3 * math.sqrt(seen * (1 - seen) / n) + 0.006)


@pytest.mark.parametrize(("n_runs", "mu"), [(100, 0.5), (400, 1.0)])
def test_two_world_games_detect_what_they_say_as_often_as_they_say(n_runs: int, mu: float) -> None:
    game = TwoWorldGame(claim(mu), n_runs)
    rng = np.random.default_rng(n_runs)
    truth = game.detectable_mu
    # Counts are whole, so the power jumps; and the threshold varies with the pilot.
    rate = accused(lambda: not game.play(lambda w: truth * w + rng.standard_normal()).passed)
    assert PROBABILITY - SLACK - 0.03 <= rate <= PROBABILITY + SLACK


def test_the_power_of_two_worlds_adds_up_all_counts_that_refute() -> None:
    n, alpha, mu, blow_up = 15, 0.1, 2.0, GaussianBlowUp(0.5)
    found = 0.0
    for true, false in itertools.product(range(n + 1), repeat=2):
        low, high = proportion_low(true, n, alpha / 2), proportion_high(false, n, alpha / 2)
        if low > blow_up(float(high)):
            found += binom.pmf(true, n, ndtr(mu / 2)) * binom.pmf(false, n, ndtr(-mu / 2))
    assert 0.1 < found < 0.9
    assert two_world_power(n, alpha, blow_up, mu) == pytest.approx(found)


def test_guesses_at_random_are_right_half_of_the_time() -> None:
    assert one_run_power(100, 50, 0, 0.0) == pytest.approx(1.0)
    assert one_run_power(101, 51, 26, 0.0) == pytest.approx(0.5)
    assert one_run_power(100, 50, 40, 1e-9) == pytest.approx(one_run_power(100, 50, 40, 0.0))


def test_the_detectable_mu_is_where_the_power_reaches_its_probability() -> None:
    assert detectable_mu(lambda mu: 1 - math.exp(-mu), 0.95) == pytest.approx(
        math.log(20), abs=1e-3
    )
    assert detectable_mu(lambda mu: 0.5) == math.inf


def test_the_sentence_says_what_was_refuted_and_what_a_silence_is_worth() -> None:
    small = power_sentence(claim(1.0), [Bound("a theorem", 0.0, math.inf)])
    assert small.startswith(
        "no violation found; by a theorem epsilon < 0 refuted, too small to detect any epsilon"
    )
    said = power_sentence(claim(1.0), [Bound("one", 1.239, 7.891), Bound("another", 2.0, 6.001)])
    assert "by one epsilon < 1.23 refuted, would have detected epsilon >= 7.9;" in said
    assert "by another epsilon < 2 refuted, would have detected epsilon >= 6.01 (" in said
    assert "with probability 0.9" in said and "epsilon 4.38 at delta 1e-05" in said


def test_each_bound_of_a_one_run_game_detects_what_it_says() -> None:
    """Of the two theorems the better one is what the whole game detects."""
    game = OneRunGame(claim(1.0), 1000, 200)
    assert game.fewest == min(game.fewest_by_pair or 201, game.fewest_by_curve or 201)
    whole = gaussian_epsilon(game.detectable_mu, DELTA)
    assert min(game.detectable_by_pair, game.detectable_by_curve) == whole
    assert game.detectable_by_curve < game.detectable_by_pair
    blind = OneRunGame(claim(3.0), 30, 3)
    assert blind.fewest_by_pair is None and blind.detectable_by_pair == math.inf
