"""Many releases cost what they cost together, and no mass is lost to rounding or to a cut tail."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.fft
from dp_accounting.pld import common
from dp_accounting.pld.pld_pmf import DensePLDPmf
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

from dpgen.privacy.accounting.composition import SUM_ERROR, composed, width
from dpgen.privacy.accounting.curves import GaussianCurve, LossCurve
from dpgen.privacy.accounting.losses import sampled_record, unsampled_sum


@pytest.mark.parametrize(("steps", "mu"), [(10, 0.3), (3000, 0.02)])
def test_a_sum_of_many_costs_what_they_cost_together(steps: int, mu: float) -> None:
    """Squares of mu add up: the transform loses nothing that is not put back, down to 1e-12."""
    part = unsampled_sum(mu, 1e-4), steps
    curve, exact = LossCurve(composed([part])), GaussianCurve(mu * math.sqrt(steps))
    for delta in (1e-2, 1e-5, 1e-8, 1e-10, 1e-12):
        least = exact.get_epsilon_for_delta(delta)
        assert least <= curve.get_epsilon_for_delta(delta) <= 1.003 * least
    assert curve.get_epsilon_for_delta(1e-15) == math.inf  # what cannot be told is not claimed
    assert width(part) >= curve._sides[0]._deltas.size / 2


def test_parts_compose_as_the_library_composes_them() -> None:
    parts = [(sampled_record(1.1, 0.2, 1e-3), 30), (sampled_record(2.0, 0.1, 1e-3), 5),
             (unsampled_sum(0.4, 1e-3), 1)]  # fmt: skip
    theirs = parts[0][0].self_compose(30).compose(parts[1][0].self_compose(5)).compose(parts[2][0])
    ours = LossCurve(composed(parts))
    for delta in (1e-3, 1e-6, 1e-9):
        exact = theirs.get_epsilon_for_delta(delta)
        assert exact <= ours.get_epsilon_for_delta(delta) <= exact * (1 + 1e-4)


@pytest.mark.parametrize(
    ("sigma", "rate", "steps", "interval"),
    [(1.15, 0.1, 40, 1e-3), (17.0, 0.0683, 4394, 1e-4), (20.0, 0.01, 100_000, 1e-4)],
)
def test_no_transform_of_more_digits_finds_a_larger_delta(
    sigma: float, rate: float, steps: int, interval: float
) -> None:
    """One of 80 bits, where the machine has them, of the same masses in the same window."""
    one = sampled_record(sigma, rate, interval)._pmf_remove
    low, high = common.compute_self_convolve_bounds(one._probs, steps, 1e-15)
    size = scipy.fft.next_fast_len(max(high - low + 1, one.size))
    spectrum = scipy.fft.fft(np.asarray(one._probs, np.longdouble), size)
    masses = np.roll(np.real(scipy.fft.ifft(spectrum**steps)), -low)[: high - low + 1]
    losses = (np.arange(len(masses)) + low + one._lower_loss * steps) * interval
    ours = LossCurve(composed([(PrivacyLossDistribution(one), steps)]))
    for delta in (1e-3, 1e-5, 1e-7, 1e-8, 1e-9, 1e-10):
        epsilon = ours.get_epsilon_for_delta(delta)
        above = losses > epsilon
        exact = float(-np.expm1((epsilon - losses[above]).astype(np.longdouble)) @ masses[above])
        assert exact <= ours.get_delta_for_epsilon(epsilon) <= exact * (1 + 1e-2) + 1e-13


def test_what_is_cut_off_is_counted_as_more_loss() -> None:
    masses = np.array([4e-16, 1e-15, 1.0, 2e-15, 3e-16])
    whole = composed([(PrivacyLossDistribution(DensePLDPmf(0.1, -2, masses, 0.0, True)), 1)])
    pmf = whole._pmf_remove
    assert pmf._lower_loss == -1
    assert pmf._probs == pytest.approx([1.4e-15, 1.0, 2e-15], rel=1e-6, abs=0)
    assert pmf._infinity_mass - SUM_ERROR == pytest.approx(3e-16, rel=1e-6, abs=0)


def test_nothing_is_not_composed() -> None:
    with pytest.raises(ValueError, match="at least one part"):
        composed([])
