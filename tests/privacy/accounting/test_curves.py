"""delta(epsilon) and its inverse, against the library's own reading of the same distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest
from dp_accounting.pld.pld_pmf import DensePLDPmf
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

from dpgen.privacy.accounting.composition import composed
from dpgen.privacy.accounting.curves import GaussianCurve, LossCurve
from dpgen.privacy.accounting.gaussian import gaussian_delta, gaussian_epsilon
from dpgen.privacy.accounting.losses import sampled_record, unsampled_sum


def losses() -> PrivacyLossDistribution:
    return composed([(sampled_record(1.1, 0.2, 1e-3), 30), (unsampled_sum(0.4, 1e-3), 1)])


def test_a_curve_has_the_numbers_of_the_library_from_above() -> None:
    whole = losses()
    curve = LossCurve(whole)
    epsilons = np.concatenate([[0.0], np.linspace(1e-5, 14.0, 333), np.arange(5) * 1e-3])
    found = curve.get_delta_for_epsilon(epsilons)
    for epsilon, delta in zip(epsilons, found, strict=True):
        exact = float(whole.get_delta_for_epsilon(float(epsilon)))
        assert exact * (1 - 1e-11) <= delta <= exact * (1 + 1e-8) + 1e-16
        assert curve.get_delta_for_epsilon(float(epsilon)) == delta
    for delta in (0.3, 1e-2, 1e-5, 1e-9):
        theirs = whole.get_epsilon_for_delta(delta)
        ours = curve.get_epsilon_for_delta(delta)
        assert theirs * (1 - 1e-12) <= ours <= theirs * (1 + 1e-9)
        assert whole.get_delta_for_epsilon(ours) <= delta * (1 + 1e-11)


def test_the_larger_direction_counts() -> None:
    one = DensePLDPmf(0.5, -1, np.array([0.5, 0.3, 0.2]), 0.0, True)
    other = DensePLDPmf(0.5, -2, np.array([0.6, 0.0, 0.0, 0.4]), 0.0, True)
    curve = LossCurve(PrivacyLossDistribution(one, other))
    exact = max(0.2 * (1 - math.exp(-0.25)), 0.4 * (1 - math.exp(-0.25)))
    assert curve.get_delta_for_epsilon(0.25) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("first", [-3, 2])
def test_a_handful_of_losses_is_read_exactly(first: int) -> None:
    """Below the first of them, between them, and above the last; infinite loss at every epsilon."""
    pmf = DensePLDPmf(0.5, first, np.array([0.4, 0.0, 0.35, 0.15]), 0.1, True)
    at, masses = (first + np.arange(4)) * 0.5, np.array([0.4, 0.0, 0.35, 0.15])
    curve = LossCurve(PrivacyLossDistribution(pmf))
    for epsilon in (0.0, 0.2, 0.5, 0.77, 1.0, 1.9, 2.5, 9.0, 4000.0):
        exact = 0.1 + float(-np.expm1(np.minimum(epsilon - at, 0)) @ masses)
        assert curve.get_delta_for_epsilon(epsilon) == pytest.approx(exact, rel=1e-12)
        if 0.1 < exact and epsilon > 0:
            assert curve.get_epsilon_for_delta(exact) == pytest.approx(epsilon, rel=1e-9)
    assert curve.get_epsilon_for_delta(0.09) == math.inf
    assert curve.get_epsilon_for_delta(1.0) == 0.0


def test_epsilons_in_the_thousands_are_read_without_overflow() -> None:
    curve = LossCurve(unsampled_sum(50.0, 1e-2))
    epsilons = np.array([0.0, 900.0, 1250.0, 1500.0, 1600.0])
    deltas = [gaussian_delta(float(e), 50.0) for e in epsilons]
    found = curve.get_delta_for_epsilon(epsilons)
    assert np.all(np.isfinite(found)) and found == pytest.approx(deltas, rel=1e-4)
    exact = gaussian_epsilon(50.0, 1e-5)
    assert curve.get_epsilon_for_delta(1e-5) == pytest.approx(exact, rel=1e-5)


def test_a_closed_form_answers_like_a_distribution() -> None:
    exact, curve = GaussianCurve(0.9), LossCurve(unsampled_sum(0.9, 1e-4))
    epsilons = np.linspace(0.0, 5.0, 11)
    found = exact.get_delta_for_epsilon(epsilons)
    assert curve.get_delta_for_epsilon(epsilons) == pytest.approx(found, rel=1e-3)
    assert np.all(curve.get_delta_for_epsilon(epsilons) >= found)
    assert exact.get_delta_for_epsilon(1.0) == found[2]
    assert exact.get_epsilon_for_delta(1e-6) <= curve.get_epsilon_for_delta(1e-6)
