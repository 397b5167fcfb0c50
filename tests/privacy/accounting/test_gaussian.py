"""The closed form, against arithmetic of sixty digits."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from mpmath import mp, mpf

from dpgen.privacy.accounting.curves import GaussianCurve
from dpgen.privacy.accounting.gaussian import (
    gaussian_delta,
    gaussian_epsilon,
    largest_mu,
    log_divergence,
)


def exact_log_delta(epsilon: float, mu: float) -> mpf:
    """Theorem 8 of Balle and Wang (2018), as it stands there."""
    with mp.workdps(60):
        e, m = mpf(epsilon), mpf(mu)
        upper = mp.erfc((e / m - m / 2) / mp.sqrt(2)) / 2
        return mp.log(upper - mp.exp(e) * mp.erfc((e / m + m / 2) / mp.sqrt(2)) / 2)


def places(n: int) -> list[tuple[float, float]]:
    """(epsilon, mu) with mu from 1e-7 to 1e4, and delta from nearly 1 to 1e-300."""
    rng, found = random.Random(3), []
    while len(found) < n:
        mu = 10 ** rng.uniform(-7, 4)
        epsilon = (rng.uniform(-min(mu / 2, 40), 36) + mu / 2) * mu
        if epsilon >= 0:
            found.append((epsilon, mu))
    return found


def test_delta_is_never_below_the_exact_one_and_never_far_above() -> None:
    for epsilon, mu in places(300):
        exact = exact_log_delta(epsilon, mu)
        found = mpf(float(log_divergence(np.array([epsilon]), mu)[0]))
        assert 0 <= found - exact <= 1e-9


@pytest.mark.parametrize("epsilon", [1e-3, 0.2, 1.0, 10.0, 1e3, 1e6])
@pytest.mark.parametrize("delta", [0.4, 1e-5, 1e-12, 1e-30, 1e-300])
def test_mu_and_epsilon_answer_each_other_and_err_on_the_safe_side(
    epsilon: float, delta: float
) -> None:
    mu = largest_mu(epsilon, delta)
    assert exact_log_delta(epsilon, mu) <= mp.log(delta)
    assert exact_log_delta(epsilon, mu * (1 + 1e-8)) > mp.log(delta)
    again = gaussian_epsilon(mu, delta)
    assert again == pytest.approx(epsilon, rel=1e-6)
    assert exact_log_delta(again, mu) <= mp.log(delta)
    assert exact_log_delta(again * (1 - 1e-8), mu) > mp.log(delta)


def test_the_ends_of_the_curve() -> None:
    assert gaussian_epsilon(0.0, 1e-5) == gaussian_epsilon(1e-9, 1e-5) == 0.0
    assert gaussian_epsilon(math.inf, 1e-5) == math.inf
    assert gaussian_delta(1.0, 0.0) == 0.0
    assert gaussian_delta(0.0, 2.0) == pytest.approx(math.erf(1 / math.sqrt(2)), rel=1e-12)
    assert gaussian_delta(0.0, 500.0) == 1.0
    assert gaussian_delta(1e5, 1.0) == 0.0


def test_the_curve_of_many_points_is_that_of_each() -> None:
    epsilons = np.linspace(0.0, 80.0, 17)
    for mu in (0.0, 0.3, 0.7, 9.0):
        whole = GaussianCurve(mu).get_delta_for_epsilon(epsilons)
        each = [gaussian_delta(float(e), mu) for e in epsilons]
        assert each == pytest.approx(whole, rel=1e-13, abs=0)
        assert np.all(np.diff(whole) <= 0)
