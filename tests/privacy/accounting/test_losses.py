"""Loss distributions of one release: never below the exact curve, nor below the library's own."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from dp_accounting import NeighboringRelation
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution
from mpmath import mp, mpf

from dpgen.privacy.accounting.losses import (
    connected,
    replaced_record,
    sampled_record,
    unsampled_sum,
)

MAKERS: dict[str, tuple[Callable[..., PrivacyLossDistribution], NeighboringRelation]] = {
    "add_remove": (sampled_record, NeighboringRelation.ADD_OR_REMOVE_ONE),
    "replace_one": (replaced_record, NeighboringRelation.REPLACE_ONE),
}
GRID = [
    (sigma, rate, interval)
    for sigma in (0.3, 1.15, 5.0, 80.0, 1e4)
    for rate in (1e-4, 0.01, 0.3, 0.999)
    for interval in (1e-2, 1e-3)
]


def both(losses: PrivacyLossDistribution, epsilon: float) -> list[float]:
    pmfs = (losses._pmf_remove, losses._pmf_add)
    return [float(pmf.get_delta_for_epsilon(epsilon)) for pmf in pmfs]


@pytest.mark.parametrize("relation", MAKERS)
@pytest.mark.parametrize(("sigma", "rate", "interval"), GRID)
def test_a_release_has_the_curve_of_the_library_point_by_point(
    sigma: float, rate: float, interval: float, relation: str
) -> None:
    """Not smaller beyond the library's rounding, of 1e-16 in delta; in both directions."""
    make, known = MAKERS[relation]
    ours = make(sigma, rate, interval)
    theirs = pld.from_gaussian_mechanism(
        sigma, sampling_prob=rate, value_discretization_interval=interval,
        neighboring_relation=known,
    )  # fmt: skip
    top = ours._pmf_remove._lower_loss + ours._pmf_remove.size
    for epsilon in np.linspace(-0.3, min(1.02 * top * interval, 300.0), 37):
        for found, exact in zip(both(ours, epsilon), both(theirs, epsilon), strict=True):
            assert exact * (1 - 1e-11) - 2e-16 <= found <= exact * (1 + 1e-6) + 2e-16


@pytest.mark.parametrize("mu", [1e-4, 0.3, 2.2, 20.0])
def test_a_sum_of_all_records_has_the_curve_of_the_library(mu: float) -> None:
    ours = unsampled_sum(mu, 1e-3)
    theirs = pld.from_gaussian_mechanism(1 / mu, value_discretization_interval=1e-3)
    for epsilon in np.linspace(-0.2, mu * (mu / 2 + 7), 41):
        found, exact = both(ours, epsilon)[0], min(both(theirs, epsilon)[0], 1.0)
        assert exact * (1 - 1e-11) - 2e-16 <= found <= exact * (1 + 1e-8) + 2e-16


def exact_delta(epsilon: float, sigma: float, rate: float, kind: str) -> mpf:
    """In sixty digits, at the point where the loss is epsilon; x is where the noise would be."""
    with mp.workdps(60):
        e, s, q = mpf(epsilon), mpf(sigma), mpf(rate)

        def tail(x: mpf) -> mpf:
            return mp.erfc(x / s / mp.sqrt(2)) / 2

        if kind == "removed":
            x = s * s * mp.log(1 + mp.expm1(e) / q) + mpf(1) / 2
            return q * tail(x - 1) + (1 - q) * tail(x) - mp.exp(e) * tail(x)
        if kind == "added":
            if 1 + mp.expm1(-e) / q <= 0:
                return mpf(0)
            x = s * s * mp.log(1 + mp.expm1(-e) / q) + mpf(1) / 2
            upper, lower = 1 - tail(x), 1 - q * tail(x - 1) - (1 - q) * tail(x)
            return upper - mp.exp(e) * lower
        alpha = (1 - q) / q * mp.exp(1 / (2 * s * s))
        x = s * s * (e / 2 + mp.asinh(alpha * mp.sinh(e / 2)))
        upper = q * tail(x - 1) + (1 - q) * tail(x)
        return upper - mp.exp(e) * (q * tail(x + 1) + (1 - q) * tail(x))


@pytest.mark.parametrize("sigma", [0.05, 0.7, 3.0, 500.0])
@pytest.mark.parametrize("rate", [1e-3, 0.2, 0.99])
def test_the_curve_meets_or_exceeds_the_exact_one_at_every_point(sigma: float, rate: float) -> None:
    interval = min(1e-2, 0.03 * rate / sigma)
    pairs = sampled_record(sigma, rate, interval)
    swapped = replaced_record(sigma, rate, interval)
    for kind, pmf in (
        ("removed", pairs._pmf_remove), ("added", pairs._pmf_add), ("", swapped._pmf_remove)
    ):  # fmt: skip
        last = pmf._lower_loss + pmf.size - 1
        for k in np.unique(np.linspace(0, last, 9).astype(int)):
            # Between the points, too, where the grid's curve is the chord of the exact one.
            for epsilon in (k * interval, (k + 0.37) * interval):
                exact = exact_delta(float(epsilon), sigma, rate, kind)
                found = float(pmf.get_delta_for_epsilon(float(epsilon)))
                assert found >= exact * (1 - mpf("1e-12")) - 1e-17


@pytest.mark.parametrize("make", [sampled_record, replaced_record])
def test_all_mass_is_one_and_none_is_negative(
    make: Callable[..., PrivacyLossDistribution],
) -> None:
    for sigma, rate, interval in GRID:
        losses = make(sigma, rate, interval)
        for pmf in (losses._pmf_remove, losses._pmf_add):
            assert pmf._probs.min() >= 0
            assert pmf._probs.sum() + pmf._infinity_mass == pytest.approx(1.0, abs=1e-13)


def test_dots_are_connected_as_the_library_connects_them() -> None:
    """Algorithm 1 of Doroshenko et al. (2022), on a curve that is no Gaussian's."""
    from dp_accounting.pld.pld_pmf import create_pmf_pessimistic_connect_dots_fixed_gap as theirs

    d, above = 0.1, np.array([0.3, 0.22, 0.1, 0.04])
    below = np.array([0.3, 0.28, 0.26])
    ours = connected(above, below, d)
    minus = np.array([2, 1]) * d
    deltas = np.concatenate([1 - np.exp(-minus) + np.exp(-minus) * below[:0:-1], above])
    known = theirs(d, -2, 3, deltas).to_dense_pmf()
    assert ours._lower_loss == known._lower_loss == -2
    np.testing.assert_allclose(ours._probs, known._probs, rtol=1e-12)
    assert math.isclose(ours._infinity_mass, known._infinity_mass)
