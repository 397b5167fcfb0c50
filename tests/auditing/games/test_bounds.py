from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import brentq, linprog
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from dpgen.auditing.games.bounds import (
    fewest_correct,
    gaussian_epsilon,
    one_run_epsilon,
    one_run_mu,
    one_run_p_value,
    one_run_refutes,
    proportion_high,
    proportion_low,
    two_world_epsilon,
    two_world_mu,
)
from dpgen.auditing.games.claims import GaussianBlowUp, ProfileBlowUp
from dpgen.privacy.accounting.accountant import Budget, gaussian_delta
from dpgen.privacy.accounting.calibration import gaussian_mu as priced_mu

DELTA = 1e-5
# Of privacy.md, section 1: epsilon at delta 1e-5, and mu rounded down.
MU = {0.2: 0.06133, 1: 0.26805, 2: 0.50155, 3: 0.71911, 5: 1.12124, 8: 1.66603, 10: 2.00044}


def gaussian_mu(epsilon: float, delta: float) -> float:
    """The mu whose `gaussian_epsilon` at ``delta`` is ``epsilon``."""
    return float(brentq(lambda m: gaussian_delta(epsilon, m) - delta, 1e-9, 100.0, xtol=1e-10))


@pytest.mark.parametrize(("epsilon", "mu"), MU.items())
def test_epsilon_and_mu_convert_into_each_other(epsilon: float, mu: float) -> None:
    assert 0 <= gaussian_mu(epsilon, DELTA) - mu < 1e-5
    assert gaussian_epsilon(gaussian_mu(epsilon, DELTA), DELTA) == pytest.approx(epsilon, abs=1e-7)
    assert priced_mu(Budget(epsilon, DELTA)) == pytest.approx(gaussian_mu(epsilon, DELTA), rel=2e-6)


def test_no_separation_costs_nothing_and_an_infinite_one_everything() -> None:
    assert gaussian_epsilon(0.0, DELTA) == gaussian_epsilon(1e-6, DELTA) == 0.0
    assert gaussian_epsilon(math.inf, DELTA) == math.inf


@pytest.mark.parametrize(("k", "n"), [(0, 10), (1, 10), (7, 10), (10, 10), (431, 1000)])
def test_a_proportion_lies_where_its_tail_has_mass_alpha(k: int, n: int) -> None:
    low, high = float(proportion_low(k, n, 0.01)), float(proportion_high(k, n, 0.01))
    assert low == 0.0 if k == 0 else binom.sf(k - 1, n, low) == pytest.approx(0.01)
    assert high == 1.0 if k == n else binom.cdf(k, n, high) == pytest.approx(0.01)


def test_proportions_of_many_counts_are_those_of_each() -> None:
    many = proportion_low(np.arange(6), 5, 0.05)
    assert many.tolist() == [float(proportion_low(k, 5, 0.05)) for k in range(6)]


# Of privacy.md, section 7.1: n runs per world at 95 %, the true mu, the median bound.
MEDIANS = {
    300: {0.5: 0.22, 1: 0.71, 2: 1.64},
    1000: {0.5: 0.33, 1: 0.84, 2: 1.82},
    3000: {0.5: 0.41, 1: 0.91, 2: 1.89},
    10000: {0.5: 0.45, 1: 0.95, 2: 1.94},
}


@pytest.mark.parametrize("n", MEDIANS)
def test_two_world_bounds_on_mu_are_those_of_the_design(n: int) -> None:
    for mu, median in MEDIANS[n].items():
        true, false = round(n * ndtr(mu / 2)), round(n * ndtr(-mu / 2))
        low = two_world_mu(
            float(proportion_low(true, n, 0.025)), float(proportion_high(false, n, 0.025))
        )
        # The table has two digits and is a median of runs, whose deviation is 1.8 / sqrt(n) each.
        assert low == pytest.approx(median, abs=0.005 + 0.25 * 1.8 / math.sqrt(n))


def test_a_two_world_bound_on_epsilon_is_that_of_the_event_or_of_its_complement() -> None:
    assert two_world_epsilon(0.5, 0.1, 0.01) == pytest.approx(math.log(0.49 / 0.1))
    assert two_world_epsilon(0.9, 0.5, 0.01) == pytest.approx(math.log(0.49 / 0.1))
    assert two_world_epsilon(0.3, 0.4, 0.01) == two_world_mu(0.3, 0.4) == 0.0
    assert two_world_epsilon(0.004, 0.002, 0.01) == 0.0


# Of privacy.md, section 7.1: canaries, guesses, the share that is right, the bound at 95 %.
ONE_RUN = [
    (1000, 100, 0.8, 0.94),
    (1000, 100, 0.9, 1.6),
    (1000, 100, 1.0, 3.5),
    (1000, 1000, 0.6, 0.30),
    (1000, 1000, 0.8, 1.25),
    (1000, 1000, 0.9, 2.0),
    (1000, 1000, 1.0, 5.8),
    (5000, 5000, 1.0, 7.3),
]


@pytest.mark.parametrize(("m", "n_guesses", "share", "expected"), ONE_RUN)
def test_one_run_bounds_on_epsilon_are_those_of_the_design(
    m: int, n_guesses: int, share: float, expected: float
) -> None:
    n_correct = round(share * n_guesses)
    found = one_run_epsilon(m, n_guesses, n_correct, 0.05, DELTA)
    assert found == pytest.approx(expected, rel=0.03)
    assert one_run_p_value(m, n_guesses, n_correct, found, DELTA) <= 0.05
    assert one_run_p_value(m, n_guesses, n_correct, found + 1e-4, DELTA) > 0.05


def p_value_by_enumeration(
    m: int, n_guesses: int, n_correct: int, epsilon: float, delta: float
) -> float:
    """The formula, term by term."""
    mass = binom.pmf(np.arange(n_guesses + 1), n_guesses, 1 / (1 + math.exp(-epsilon)))
    below = [mass[n_correct - i : n_correct].sum() / i for i in range(1, n_correct + 1)]
    return min(1.0, mass[n_correct:].sum() + 2 * m * delta * max(below, default=0.0))


@pytest.mark.parametrize("n_correct", [0, 1, 5, 8])
@pytest.mark.parametrize("delta", [0.0, 1e-3, 0.1])
def test_the_one_run_p_value_is_its_formula(n_correct: int, delta: float) -> None:
    found = one_run_p_value(12, 8, n_correct, 0.7, delta)
    assert found == pytest.approx(p_value_by_enumeration(12, 8, n_correct, 0.7, delta), rel=1e-9)


def test_all_canaries_count_also_those_that_are_not_guessed() -> None:
    bounds = [one_run_epsilon(m, 100, 95, 0.05, 1e-4) for m in (100, 1000, 3000)]
    assert bounds[0] > bounds[1] > bounds[2]


def test_one_guess_about_one_canary_is_bounded_exactly() -> None:
    # The best guess about a mu-GDP release is right with probability Phi(mu / 2).
    best = ndtr(0.5)
    inverse = GaussianBlowUp(1.0).inverse
    assert not one_run_refutes(1, 1, 1, best - 1e-9, inverse)
    assert one_run_refutes(1, 1, 1, best + 1e-9, inverse)
    assert one_run_p_value(1, 1, 1, math.log(3), 0.0) == pytest.approx(0.75)


def largest_tail(m: int, r: int, v: int, epsilons: np.ndarray, deltas: np.ndarray) -> float:
    """The largest P[C >= v] under the constraints of the theorem, by linear programming."""
    k = np.arange(r + 1)
    rows, limits = [], []
    for i in range(1, r + 1):
        right, wrong = (k >= i) * k / m, (k >= i - 1) * (r - k) / m
        for epsilon, delta in zip(epsilons, deltas, strict=True):
            rows += [right - math.exp(epsilon) * wrong, right - math.exp(-epsilon) * wrong]
            limits += [delta, 1 - math.exp(-epsilon) * (1 - delta)]
    found = linprog(
        -(k >= v).astype(float), A_ub=np.array(rows), b_ub=limits, A_eq=np.ones((1, r + 1)), b_eq=1
    )
    return -found.fun


@pytest.mark.parametrize(("m", "r"), [(3, 3), (10, 6), (12, 12)])
@pytest.mark.parametrize(
    ("epsilons", "deltas"),
    [
        ([0.0], [0.3]),
        ([0.8], [0.0]),
        ([1.5], [0.01]),
        ([0.0, 0.5, 1.0, 2.0], [0.38, 0.24, 0.13, 0.02]),
    ],
)
def test_the_bound_on_the_tail_is_the_optimum_of_a_linear_programme(
    m: int, r: int, epsilons: list[float], deltas: list[float]
) -> None:
    claim = ProfileBlowUp(np.array(epsilons), np.array(deltas))
    for v in range(1, r + 1):
        largest = largest_tail(m, r, v, claim.epsilons, claim.deltas)
        if largest < 1 - 1e-6:
            assert one_run_refutes(m, r, v, largest + 1e-6, claim.inverse)
        assert not one_run_refutes(m, r, v, largest - 1e-6, claim.inverse)


@pytest.mark.parametrize("mu", [0.3, 1.0, 3.0])
def test_independent_canaries_never_refute_their_own_curve(mu: float) -> None:
    right = float(ndtr(mu / 2))
    for m, r in ((1, 1), (7, 7), (50, 20), (200, 200)):
        for v in range(1, r + 1):
            tail = float(binom.sf(v - 1, r, right))
            assert not one_run_refutes(m, r, v, tail * (1 - 1e-9), GaussianBlowUp(mu).inverse)


def test_the_bound_on_mu_uses_more_of_a_gaussian_claim_than_epsilon_and_delta_do() -> None:
    for m, r, share, _ in ONE_RUN:
        v = round(share * r)
        mu = one_run_mu(m, r, v, 0.05)
        assert gaussian_epsilon(mu, DELTA) > 1.4 * one_run_epsilon(m, r, v, 0.05, DELTA)
        assert one_run_refutes(m, r, v, 0.05, GaussianBlowUp(mu).inverse)
        assert not one_run_refutes(m, r, v, 0.05, GaussianBlowUp(mu + 1e-4).inverse)


def test_half_of_the_guesses_right_prove_nothing() -> None:
    assert one_run_mu(100, 100, 50, 0.05) == 0.0
    assert one_run_epsilon(100, 100, 50, 0.05, DELTA) == 0.0


@pytest.mark.parametrize("fewest", [0, 1, 7, 10, None])
def test_the_fewest_right_guesses_are_found(fewest: int | None) -> None:
    refutes: Callable[[int], bool] = lambda v: fewest is not None and v >= fewest  # noqa: E731
    assert fewest_correct(10, refutes) == fewest


@pytest.mark.parametrize(("m", "r", "v"), [(5, 6, 1), (5, 3, 4), (5, 3, -1)])
def test_impossible_counts_are_refused(m: int, r: int, v: int) -> None:
    with pytest.raises(ValueError, match="n_correct must lie in"):
        one_run_p_value(m, r, v, 1.0, 0.0)
    with pytest.raises(ValueError, match="n_correct must lie in"):
        one_run_refutes(m, r, v, 0.05, lambda y: float(ndtr(ndtri(y))))
