"""The privacy loss of one DP-SGD step when the protected unit has several records.

Neighbours differ by a unit of at most m records. A step draws each of them with probability q, so
the unit moves a step's sum by a vector of norm at most k, in units of the clip norm, where
k ~ Binomial(m, q). The dominating pair is

    with the unit     P = sum_k Binomial(m, q)(k) N(k, sigma**2)
    without it        Q = N(0, sigma**2)

in either direction, whatever the records: this is `MixtureOfGaussiansDpEvent` of `dp_accounting`
(Choquette-Choo, Ganesh, Steinke and Thakurta 2024, Corollary 4.7; theorem B1). The discretisation
there inverts the loss to 1e-6 and evaluates the hockey-stick divergence at a point beside the best
one, which gives slightly less than the true value. It is therefore computed here, up to rounding;
the tests compare the two.

Why P and Q dominate is theorem B1, by the comparison of Gaussian mixtures in theorem F6.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution
from scipy.special import gammaln, log_ndtr, logsumexp, ndtr, xlog1py, xlogy

from dpgen.privacy.accounting.losses import connected, grid_to

Array = np.ndarray[Any, np.dtype[np.float64]]

TAIL = 12.0  # standard deviations; the mass beyond is 1e-32
LEAST_MASS = 1e-32  # numbers of a unit's records in a sample that are rarer count as infinite loss
MOST_RECORDS = 1000  # of a unit; the work grows with this number
BLOCK = 1 << 22  # exponentials that are held in memory at once


def sampled_unit(
    noise_multiplier: float, rate: float, n_records: int, interval: float
) -> PrivacyLossDistribution:
    """Returns the loss distribution of one step, in both directions, pessimistic at every
    ``interval``.

    Args:
        noise_multiplier: standard deviation of the noise over the clip norm.
        rate: probability of the Poisson sampling, in (0, 1).
        n_records: m, the most records of the unit, in 1..1000.
        interval: spacing of the discretisation.

    Raises:
        ValueError: n_records is out of range.
    """
    if not 1 <= n_records <= MOST_RECORDS:
        raise ValueError(
            f"max_records_per_unit must lie in 1..{MOST_RECORDS} where a method draws Poisson "
            f"samples, got {n_records}: take a method without sampling"
        )
    step = _Step(noise_multiplier, _log_binomial(n_records, rate))
    least, most = step.loss(np.array([-TAIL * step.sigma, step.last + TAIL * step.sigma]))[0]
    removed = _falling(step.delta_removed(grid_to(most, interval)))
    added = _falling(step.delta_added(grid_to(-least, interval)))
    return PrivacyLossDistribution(
        connected(removed, added, interval), connected(added, removed, interval)
    )


def _falling(deltas: Array) -> Array:
    """Makes the divergence non-increasing where rounding made it rise: no value is below a later
    one.
    """
    return np.asarray(np.maximum.accumulate(np.clip(deltas, 0.0, 1.0)[::-1])[::-1])


def _log_binomial(m: int, rate: float) -> Array:
    """Returns the logarithms of Binomial(m, rate)(k), k = 0 .. m."""
    k = np.arange(m + 1.0)
    ways = gammaln(m + 1) - gammaln(k + 1) - gammaln(m - k + 1)
    return np.asarray(ways + xlogy(k, rate) + xlog1py(m - k, -rate))


class _Step:
    """P and Q of one step. The loss log dP/dQ rises with x, and is convex.

    Fewer than 1e-32 of the samples hold more than ``last`` records of the unit.
    """

    def __init__(self, sigma: float, log_weights: Array) -> None:
        self.sigma, self._log_weights = sigma, log_weights
        self._k = np.arange(float(len(log_weights)))
        tails = np.logaddexp.accumulate(log_weights[::-1])[::-1]
        self.last = int(np.flatnonzero(tails >= math.log(LEAST_MASS))[-1])

    def loss(self, x: Array) -> tuple[Array, Array]:
        """Returns log dP/dQ at x, (N,), and its derivative, (N,)."""
        values, slopes = np.empty(len(x)), np.empty(len(x))
        for rows in self._blocks(len(x)):
            moved = np.outer(x[rows], self._k) - self._k**2 / 2
            terms = self._log_weights + moved / self.sigma**2
            top = terms.max(1, keepdims=True)
            shares = np.exp(terms - top)
            total = shares.sum(1)
            values[rows] = top[:, 0] + np.log(total)
            slopes[rows] = shares @ self._k / total / self.sigma**2
        return values, slopes

    def _blocks(self, n: int) -> list[slice]:
        size = max(1, BLOCK // len(self._k))
        return [slice(start, start + size) for start in range(0, n, size)]

    def at(self, losses: Array) -> Array:
        """Finds the points where the loss takes these values, (N,); for values beyond the tails,
        the nearest end.
        """
        left, right = -(TAIL + 1) * self.sigma, self.last + (TAIL + 1) * self.sigma
        grid = np.linspace(left, right, 20_001)
        known, _ = self.loss(grid)
        cell = np.clip(np.searchsorted(known, losses), 1, len(grid) - 1)
        x = np.interp(losses, known, grid)
        inside = (losses > known[0]) & (losses < known[-1])
        for _ in range(6):  # Newton steps within the cell: far to the left the loss is almost flat
            value, slope = self.loss(x)
            error = np.max(np.abs(value - losses), where=inside, initial=0.0)
            # The divergence decreases with the square of the distance from the best point.
            if error <= 1e-9:
                return x
            x = np.clip(x - (value - losses) / slope, grid[cell - 1], grid[cell])
        raise ArithmeticError(f"the loss of a unit was inverted only to an error of {error:.1g}")

    def delta_removed(self, epsilons: Array) -> Array:
        """Computes the hockey-stick divergence H(P || Q) at exp(epsilon), (N,)."""
        x = self.at(epsilons)
        above = np.exp(self._log_mass(-x, -1.0))
        return np.asarray(above - np.exp(epsilons + log_ndtr(-x / self.sigma)))

    def delta_added(self, epsilons: Array) -> Array:
        """Computes the hockey-stick divergence H(Q || P) at exp(epsilon), (N,)."""
        x = self.at(-epsilons)
        return np.asarray(ndtr(x / self.sigma) - np.exp(epsilons + self._log_mass(x, 1.0)))

    def _log_mass(self, x: Array, side: float) -> Array:
        """Computes log P of (-inf, x] for side 1, of [-x, inf) for side -1."""
        mass = np.empty(len(x))
        for rows in self._blocks(len(x)):
            distances = (x[rows, None] - side * self._k) / self.sigma
            mass[rows] = logsumexp(self._log_weights + log_ndtr(distances), axis=1)
        return mass
