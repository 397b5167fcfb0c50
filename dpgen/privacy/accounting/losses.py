"""Pessimistic loss distributions of one release on a grid, computed for the whole grid at once.

The curve delta(epsilon) of a release is known exactly. The distribution used here lies on the
multiples of an interval, and its own curve meets the true curve at every multiple. Between two
multiples its curve is linear in exp(epsilon) and the true one is convex there, so it nowhere lies
below ("connect the dots": Doroshenko, Ghazi, Kamath, Kumar and Manurangsi 2022, Algorithm 1).
`dp_accounting` does the same point by point, and composes the distributions built here; the tests
compare the two.

For one record in a Poisson sample of rate q, noise of standard deviation sigma, and H the curve of
the Gaussian mechanism with mu = 1 / sigma, at epsilon >= 0,

    removed(epsilon) = q H(u),                              u = log(1 + (exp(epsilon) - 1) / q)
    added(epsilon)   = (1 - (1 - q) exp(epsilon)) H(-v),    v = log(1 + (exp(-epsilon) - 1) / q)

(Balle, Barthe and Gaboardi 2018, Theorem 2). At negative epsilons each follows from the other:
delta(epsilon) = 1 - exp(epsilon) + exp(epsilon) delta'(-epsilon). So this module computes how far a
curve lies above max(0, 1 - exp(epsilon)), the curve of a release that reveals nothing. This
difference decreases to both sides, and no digit is lost in the tails.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from dp_accounting.pld.pld_pmf import DensePLDPmf
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution
from scipy.special import log_ndtr

from dpgen.privacy.accounting.gaussian import ROUNDING, SMALLEST, log_divergence

Array = np.ndarray[Any, np.dtype[np.float64]]

TAIL = 10.0  # standard deviations; the mass beyond, 1e-23, is counted as infinite loss


def unsampled_sum(mu: float, interval: float) -> PrivacyLossDistribution:
    """Returns the losses of a sum over all records whose sensitivity is ``mu`` times its noise."""
    epsilons = grid_to(mu * (mu / 2 + TAIL), interval)
    curve = np.exp(log_divergence(epsilons, mu))
    return PrivacyLossDistribution(connected(curve, curve, interval))


def sampled_record(
    noise_multiplier: float, rate: float, interval: float
) -> PrivacyLossDistribution:
    """Returns the losses of a sum over a Poisson sample, for a record that may be in the data or
    not.

    Args:
        noise_multiplier: standard deviation of the noise over the clip norm.
        rate: probability with which each record is sampled, in (0, 1).
        interval: spacing of the grid.
    """
    mu = 1 / noise_multiplier
    most = np.logaddexp(math.log1p(-rate), math.log(rate) + mu * (mu / 2 + TAIL))
    above = grid_to(float(most), interval)
    small = np.minimum(above, 30.0)
    losses = np.where(
        above < 30.0,
        np.log1p(np.expm1(small) / rate),
        above - math.log(rate) + np.log1p(-(1 - rate) * np.exp(-above)),
    )
    removed = rate * np.exp(log_divergence(losses, mu))
    below = grid_to(min(-math.log1p(-rate), mu * (mu / 2 + TAIL)), interval)
    held = 1 + np.expm1(-below) / rate  # exp(v); nothing is lost beyond log(1 / (1 - rate))
    held = np.where(held > 0, held + ROUNDING, SMALLEST)
    added = rate * np.exp(below) * held * np.exp(log_divergence(-np.log(held), mu))
    return PrivacyLossDistribution(
        connected(removed, added, interval), connected(added, removed, interval)
    )


def replaced_record(
    noise_multiplier: float, rate: float, interval: float
) -> PrivacyLossDistribution:
    """Returns the losses of a sum over a Poisson sample in which one record is replaced by another.
    Each is sampled with probability ``rate``; they move the sum in opposite directions.

    The loss is epsilon where x = sigma**2 (epsilon / 2 + arsinh(alpha sinh(epsilon / 2))), with
    alpha = (1 - q) / q exp(1 / (2 sigma**2)).
    """
    mu = 1 / noise_multiplier
    apart = mu * (mu / 2 + TAIL)
    # The most that one record adds to the loss and the other takes away.
    most = np.logaddexp(math.log1p(-rate), math.log(rate) + apart)
    most -= np.logaddexp(math.log1p(-rate), math.log(rate) - apart - mu * mu)
    epsilons = grid_to(float(most), interval)
    log_alpha = math.log1p(-rate) - math.log(rate) + mu * mu / 2
    half = np.maximum(epsilons, 1e-300) / 2
    log_sinh = half + np.log(-np.expm1(-2 * half)) - math.log(2)
    swing = log_alpha + log_sinh
    x = (half + np.logaddexp(swing, np.logaddexp(0.0, 2 * swing) / 2)) / mu  # in units of sigma
    moved = np.exp(log_ndtr(mu - x)) - np.exp(epsilons + log_ndtr(-mu - x))
    stayed = np.exp(log_ndtr(-x)) - np.exp(epsilons + log_ndtr(-x))
    # Both are differences of two parts of `terms`.
    terms = rate * np.exp(log_ndtr(mu - x)) + (1 - rate) * np.exp(log_ndtr(-x))
    slack = ROUNDING * (epsilons + x * x + 10) * terms
    curve = np.clip(rate * moved + (1 - rate) * stayed + slack, 0.0, 1.0)
    return PrivacyLossDistribution(connected(curve, curve, interval))


def connected(above: Array, below: Array, interval: float) -> DensePLDPmf:
    """Returns the distribution on the multiples of ``interval`` whose curve meets these points.

    Args:
        above: delta at 0, 1, 2 .. intervals; (N,) with N at least 2, not increasing.
        below: delta of the other direction there, (M,); it begins with the first of ``above``.
    """
    n_below = len(below) - 1
    behind = np.exp(-interval * np.arange(n_below, 0, -1)) * below[:0:-1]
    curve = np.concatenate([behind, above])
    rises = np.diff(curve)
    probs = np.empty_like(curve)
    probs[1:-1] = rises[1:] - math.exp(interval) * rises[:-1]
    probs[0] = rises[0] - math.expm1(interval) * curve[0]
    probs[-1] = -rises[-1] * math.exp(interval)
    probs /= math.expm1(interval)
    probs[n_below] += 1  # the distribution of a release that reveals nothing
    # A mass that rounding makes negative is set to 0: more mass is more loss, at every epsilon.
    return DensePLDPmf(interval, -n_below, np.maximum(probs, 0.0), float(above[-1]), True)


def grid_to(most: float, interval: float) -> Array:
    """Returns 0, 1, 2 .. intervals, up to the first that is not below ``most``."""
    return np.asarray(np.arange(max(math.ceil(most / interval), 1) + 1) * interval, np.float64)
