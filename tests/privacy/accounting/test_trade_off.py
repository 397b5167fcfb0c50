"""Rates of an attacker: the closed form of the Gaussian, and what no attacker can exceed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dp_accounting import dp_event
from scipy.stats import norm

from dpgen.privacy.accounting import trade_off
from dpgen.privacy.accounting.accountant import curve_of, epsilon_of
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.accounting.trade_off import right_guesses, true_positive_rate

RECORD = Relation("add_remove", 1)
SAMPLED = dp_event.SelfComposedDpEvent(
    dp_event.PoissonSampledDpEvent(0.1, dp_event.GaussianDpEvent(1.2)), 40
)


@pytest.mark.parametrize("rate", [1e-3, 1e-2, 0.3, 0.9])
@pytest.mark.parametrize("mu", [0.05, 0.5, 1.0, 2.0, 4.0])
def test_a_gaussian_has_the_rates_of_the_best_test_and_never_less(mu: float, rate: float) -> None:
    """The likelihood ratio test of N(0, 1) against N(mu, 1) finds Phi(Phi^-1(alpha) + mu)."""
    exact = norm.cdf(norm.ppf(rate) + mu)
    stated = true_positive_rate(dp_event.GaussianDpEvent(1 / mu), RECORD, rate)
    assert exact <= stated <= min(exact * 1.01 + 1e-12, 1)


@pytest.mark.parametrize("mu", [0.05, 1.0, 4.0])
def test_the_bound_before_rounding_is_the_closed_form_to_seven_digits(mu: float) -> None:
    curve = curve_of(dp_event.GaussianDpEvent(1 / mu), RECORD)
    assert curve is not None
    for rate in (1e-3, 0.2):
        exact = float(norm.cdf(norm.ppf(rate) + mu))
        assert 0 <= trade_off._most_found(curve, rate) / exact - 1 < 1e-7


def test_an_even_guess_is_right_as_often_as_the_total_variation_says() -> None:
    for mu in (0.1, 1.0, 3.0):
        exact = norm.cdf(mu / 2)
        assert exact <= right_guesses(dp_event.GaussianDpEvent(1 / mu), RECORD) <= exact * 1.01


@pytest.mark.parametrize("rate", [1e-3, 1e-2, 0.5])
def test_no_rate_is_better_for_the_attacker_than_epsilon_and_delta_allow(rate: float) -> None:
    """The bound that (epsilon, delta) alone gives is the looser one, at every delta."""
    stated = true_positive_rate(SAMPLED, RECORD, rate)
    for delta in (1e-8, 1e-5, 1e-3, 0.1):
        epsilon = epsilon_of(SAMPLED, delta, RECORD)
        assert trade_off._most_found(_Only(epsilon, delta), rate) >= stated * 0.989


def test_more_false_positives_find_more_members_and_a_person_has_more_to_lose() -> None:
    alphas = (1e-3, 1e-2, 0.1, 0.5)
    rates = [true_positive_rate(SAMPLED, RECORD, alpha) for alpha in alphas]
    assert rates == sorted(rates) and all(r > a for r, a in zip(rates, alphas, strict=True))
    person = true_positive_rate(SAMPLED, Relation("add_remove", 3), 1e-3)
    assert person > rates[0]


def test_a_release_without_a_bound_hides_nobody() -> None:
    bare = dp_event.PoissonSampledDpEvent(0.1, dp_event.GaussianDpEvent(1e-3))
    assert true_positive_rate(bare, RECORD, 1e-3) == right_guesses(bare, RECORD) == 1.0


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, float("nan")])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="false_positive_rate must lie in"):
        true_positive_rate(SAMPLED, RECORD, rate)


class _Only:
    """The curve of which (epsilon, delta) alone is known."""

    def __init__(self, epsilon: float, delta: float) -> None:
        self.epsilon, self.delta = epsilon, delta

    def get_delta_for_epsilon(self, epsilon: Any) -> Any:  # noqa: ANN401
        return np.where(np.asarray(epsilon) >= self.epsilon, self.delta, 1.0)

    def get_epsilon_for_delta(self, delta: float) -> float:
        return 2 * self.epsilon + 1
