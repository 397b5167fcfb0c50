"""The un-sampled Gaussian mechanism in closed form: delta from epsilon, epsilon from delta.

A sum that moves by at most ``mu`` standard deviations of the noise on it has the curve

    delta(epsilon) = Phi(mu / 2 - epsilon / mu) - exp(epsilon) Phi(-mu / 2 - epsilon / mu)

(Balle and Wang 2018, Theorem 8). Several such releases together have the curve whose mu is the root
of the sum of their mu**2 (Dong, Roth and Su 2022, Corollary 3.3). Nothing is discretised, so delta
may be as small as a float can be, 1e-300 as well as 1e-5.

The two terms almost cancel where delta is small. With Mills' ratio R(z) = Phi(-z) / phi(z) and z =
epsilon / mu - mu / 2, delta equals phi(z) (R(z) - R(z + mu)), because exp(epsilon) phi(z + mu) =
phi(z); nothing overflows and far less cancels. For a small mu that difference is the integral of
-R'(t) = 1 - t R(t) from z to z + mu, which is positive everywhere. The remaining rounding error is
bounded and added: every delta and every epsilon of this module errs on the large side, every mu on
the small side.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import erfcx, ndtr

Array = np.ndarray[Any, np.dtype[np.float64]]

SMALL_MU = 0.5  # below this, the difference of two Mills' ratios is computed as an integral
NODES, WEIGHTS = np.polynomial.legendre.leggauss(8)
ROUNDING = 1e-15  # relative error of one operation: a few units in the last place
SMALLEST = 1e-300  # smaller values are raised to this: an upper bound that has a logarithm


def log_divergence(epsilon: Array, mu: float) -> Array:
    """Returns the log of an upper bound on delta at every ``epsilon`` >= 0, (N,); above log delta
    by at most 1e-9.

    The bound also holds where ``epsilon`` itself is off by ROUNDING times its size.
    """
    epsilon = np.asarray(epsilon, np.float64)
    z = epsilon / mu - mu / 2
    if mu < SMALL_MU:
        t = z[..., None] + mu / 2 * (1 + NODES)
        drop = mu / 2 * (1 - t * _mills(t)) @ WEIGHTS
        found = _log_density(z) + np.log(np.maximum(drop, SMALLEST))
    else:
        behind, right, left = _mills(z + mu), np.maximum(z, 0.0), np.minimum(z, 0.0)
        drop = np.maximum(_mills(right) - behind, SMALLEST)
        # For z < 0, delta is at least a fifth, and its two terms do not cancel.
        most = np.maximum(ndtr(-left) - np.exp(_log_density(left)) * behind, SMALLEST)
        found = np.where(z >= 0, _log_density(right) + np.log(drop), np.log(most))
    # z is known to ROUNDING (epsilon / mu + mu / 2), and log delta falls with a slope of at most
    # |z| + 1 there. z**2 / 2 adds ROUNDING z**2; Mills' ratio adds ROUNDING (z**2 + 1) where it is
    # subtracted from 1, and ROUNDING (2 |z| + 3) where another is subtracted from it.
    known = (np.abs(z) + 1) * (epsilon / mu + mu / 2) + 2 * z * z + 100
    return np.asarray(np.minimum(found + ROUNDING * known, 0.0))


def gaussian_delta(epsilon: float, mu: float) -> float:
    """Returns delta(epsilon) of the un-sampled Gaussian mechanism with sensitivity / std = mu,
    rounded up.
    """
    return math.exp(_log_delta(epsilon, mu))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Returns the smallest epsilon at which the mechanism spends at most ``delta``, rounded up, to
    a relative 1e-12.
    """
    if not math.isfinite(mu):
        return math.inf
    aim = math.log(delta)
    if _log_delta(0.0, mu) <= aim:
        return 0.0
    # The loss has mean mu**2 / 2 and standard deviation mu; delta is at most its tail.
    high = mu * (mu / 2 + math.sqrt(-2 * aim) + 1)
    while _log_delta(high, mu) > aim:
        high *= 2
    low = 0.0
    while high - low > 1e-12 * high:  # `high` stays within delta throughout
        middle = (low + high) / 2
        low, high = (low, middle) if _log_delta(middle, mu) <= aim else (middle, high)
    return high


def largest_mu(epsilon: float, delta: float) -> float:
    """Returns the largest mu whose mechanism stays within (epsilon, delta), rounded down, to a
    relative 1e-9.
    """
    aim = math.log(delta)
    low, high = 0.0, 1.0
    while _log_delta(epsilon, high) <= aim:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _log_delta(epsilon, middle) <= aim else (low, middle)
    return low


def _log_delta(epsilon: float, mu: float) -> float:
    return float(log_divergence(np.array([epsilon]), mu)[0]) if mu > 0 else -math.inf


def _mills(z: Array) -> Array:
    """Computes Mills' ratio, Phi(-z) / phi(z)."""
    return np.asarray(math.sqrt(math.pi / 2) * erfcx(z / math.sqrt(2)))


def _log_density(z: Array) -> Array:
    return np.asarray(-z * z / 2 - math.log(2 * math.pi) / 2)
