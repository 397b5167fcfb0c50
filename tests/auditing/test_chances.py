"""The bounds hold, against exact laws and simulations, and are close enough to see something."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, norm

from dpgen.auditing import chances
from dpgen.auditing.chances import Chances


def test_a_chance_below_the_level_accuses_and_so_does_one_that_is_no_number() -> None:
    assert Chances({"a": 1e-8, "b": 1.0}).passed
    found = Chances({"a": 1e-10, "b": 1.0, "c": math.nan})
    assert found.accused == ("a", "c") and not found.passed
    assert Chances({"a": 0.5, "b": 0.1}).worst == "b"


def test_the_bound_on_a_correlation_is_above_simulated_tails_and_near_the_normal_one() -> None:
    rng, n, lag = np.random.default_rng(0), 200, 3
    x = rng.standard_normal((100_000, n))
    sums = np.abs((x[:, lag:] * x[:, :-lag]).sum(1))
    for limit in (20.0, 35.0, 50.0):
        assert (sums > limit).mean() <= chances.of_correlation(limit, n, 1)
    for z in (6.0, 8.0, 10.0):
        bound, normal = chances.of_correlation(1000 * z, 10**6, 1), 2 * norm.sf(z)
        assert normal < bound < 100 * normal
    assert chances.of_correlation(9000, 10**6, 10) == pytest.approx(
        10 * chances.of_correlation(9000, 10**6, 1)
    )


def test_two_vectors_are_aligned_by_chance_as_often_as_the_law_says() -> None:
    rng, length = np.random.default_rng(0), 8
    x, y = rng.standard_normal((2, 200_000, length))
    cosines = np.abs((x * y).sum(1)) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    for limit in (0.5, 0.8, 0.95):
        chance = chances.of_alignment(limit, length, 1)
        assert (cosines > limit).mean() == pytest.approx(chance, rel=0.1)
    assert chances.of_alignment(1.0, 256, 10**7) == 0
    assert chances.of_alignment(0.6, 256, 10**7) < chances.LEVEL


@pytest.mark.parametrize("rate", [0.004, 0.3, 0.5])
@pytest.mark.parametrize("length", [3, 4, 5, 63])
def test_the_moments_of_coins_around_a_cycle_are_bounded_whatever_its_length(
    rate: float, length: int
) -> None:
    for s in (-3.0, -0.1, 0.1, 3.0):
        step = np.array(
            [
                [1 - rate, math.sqrt(rate * (1 - rate))],
                [math.sqrt(rate * (1 - rate)), rate * math.exp(s)],
            ]
        )
        exact = math.log(np.trace(np.linalg.matrix_power(step, length)))
        bound = float(chances._log_moment(np.array([s]), length, rate)[0])
        assert exact <= bound * (1 + 1e-12) + 1e-15 if bound > 0 else exact <= bound + 1e-15


def test_common_coins_are_bounded_by_simulated_tails_on_both_sides() -> None:
    rng, n, rate = np.random.default_rng(0), 61, 0.3
    x = rng.random((100_000, n)) < rate
    counts = (x & np.roll(x, 1, axis=1)).sum(1)
    expected = round(n * rate**2)
    for limit in (10, 14, 18):
        seen = np.array([limit, expected])
        assert (counts >= limit).mean() <= chances.of_overlap(seen, n, rate)
    assert (counts == 0).mean() <= chances.of_overlap(np.array([0, expected]), n, rate) < 0.4
    # What two equal steps of sixty thousand records in 63 have in common.
    shared = np.array([70, 70 + 256])
    assert chances.of_overlap(shared, 63 * 60_025, 256 / 60_025) < 1e-40


def test_counts_are_looked_at_from_both_sides() -> None:
    n, rate = 1000, 0.1
    middle = np.full(50, 100)
    assert chances.of_counts(middle, n, rate) == 1.0
    for count in (20, 180):
        seen = middle.copy()
        seen[7] = count
        tail = min(binom.cdf(count, n, rate), binom.sf(count - 1, n, rate))
        assert chances.of_counts(seen, n, rate) == pytest.approx(100 * tail)


def test_equal_values_are_counted_against_how_many_are_expected() -> None:
    rng = np.random.default_rng(0)
    n, width = 3000, 2.0**-10
    bins = np.floor(np.abs(rng.standard_normal((200, n))) / width).astype(int)
    counts = [n - len(np.unique(row)) for row in bins]
    # Any two are equal with probability width * integral f**2, and that is less than the width.
    assert np.mean(counts) < n * n / 2 * width
    assert chances.of_equals(0, 10**6, chances.EQUAL) == 1
    assert chances.of_equals(3, 5 * 10**6, chances.EQUAL) < chances.LEVEL
