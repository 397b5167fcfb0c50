"""Computes p-values: how probable an observation at least as extreme is under a correct mechanism.

Every function returns an upper bound on that probability and counts all comparisons that were made
(union bound), so that a test of millions of pairs accuses no more often than a test of one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import betainc
from scipy.stats import binom

LEVEL = 1e-9  # a mechanism is accused below this probability


@dataclass(frozen=True)
class Chances:
    """Upper bounds on the probability of the observations, by the name of the statistic.

    Guarantee: a correct mechanism is accused with probability at most ``len(values) * LEVEL``.
    """

    values: Mapping[str, float]

    @property
    def worst(self) -> str:
        return min(self.values, key=lambda name: self.values[name])

    @property
    def passed(self) -> bool:
        return not self.accused

    @property
    def accused(self) -> tuple[str, ...]:
        """Returns the statistics that cannot be chance. A NaN is one of them: no correct mechanism
        gives it.
        """
        return tuple(name for name, chance in self.values.items() if not chance >= LEVEL)


def of_correlation(total: float, n: int, n_looks: int) -> float:
    """Bounds the probability that a sum of products of standard normals is as far from 0 as
    ``total``.

    The products are those of a sequence with its shifted self, or with an independent sequence;
    each number is in at most two of them. ``E exp(s sum) <= r(s)**(-n/2)`` with ``2 r = 1 +
    sqrt(1 - 4 s**2)``, from the determinant of a tridiagonal matrix; for products of independent
    pairs it is smaller. The bound is Chernoff's at ``s = total / n``, which is nearly optimal.

    Args:
        n: length of the sequence, at least the number of products.
        n_looks: how many such sums were tested; ``total`` is the most extreme.
    """
    s = min(abs(total) / n, 0.49)
    exponent = s * abs(total) + n / 2 * math.log((1 + math.sqrt(1 - 4 * s * s)) / 2)
    return _bounded(math.log(2 * n_looks) - exponent)


def of_alignment(cosine: float, length: int, n_pairs: int) -> float:
    """Bounds the probability of a cosine as large as this, in absolute value, between two of many
    independent vectors of ``length`` standard normals: its square is distributed as Beta(1/2,
    (length - 1) / 2).
    """
    square = min(1.0, cosine * cosine)
    return min(1.0, n_pairs * float(betainc((length - 1) / 2, 0.5, 1 - square)))


# With f the density of |z|: two standard normals in float64 have the same absolute value with
# probability integral f**2 spacing < 2**-54, and lie in one bin of a given width with probability
# width * integral f**2 < width. So do their neighbours, which squares the probability.
EQUAL = 2.0**-54
BIN = 2.0**-27
ALIKE = BIN**2


def of_equals(count: int, n: int, probability: float) -> float:
    """Bounds the probability of at least ``count`` equal pairs among ``n`` values of which any two
    are equal with at most ``probability``: a Poisson tail, at most ``expected**count / count!``.
    """
    expected = n * n / 2 * probability
    return _bounded(count * math.log(expected) - math.lgamma(count + 1)) if count else 1.0


def of_overlap(counts: np.ndarray, n: int, rate: float) -> float:
    """Bounds the probability of the most extreme of many counts of common coins.

    Each count is the sum of products of neighbouring coins over one or more cycles: of ``n``
    independent coins arranged in cycles of at least three. ``E exp(s sum)`` is a trace of powers
    of a 2x2 matrix; the bound is Chernoff's at the best ``s``.
    """
    grid = np.geomspace(1e-6, 30.0, 400)
    above = _log_moment(grid, n, rate) - grid * float(counts.max())
    below = _log_moment(-grid, n, rate) + grid * float(counts.min())
    return _bounded(math.log(2 * counts.size) + min(above.min(), below.min()))


def _log_moment(s: np.ndarray, n: int, rate: float) -> np.ndarray:
    """Bounds ln E exp(s sum of products around cycles) from above, for all lengths from three on:
    the trace of the L-th power to the power 1 / L is at most an L-norm of the eigenvalues, which
    decreases with L.
    """
    lift = rate * np.expm1(s)
    trace, determinant = 1 + lift, (1 - rate) * lift
    root = np.sqrt(trace**2 - 4 * determinant)
    larger, smaller = (trace + root) / 2, (trace - root) / 2
    return n / 3 * np.log(larger**3 + np.abs(smaller) ** 3)


def of_counts(counts: np.ndarray, n: int, rate: float) -> float:
    """Bounds the probability of the most extreme of many binomial counts, each of ``n`` trials:
    twice the smaller tail, times the number of counts.
    """
    above = binom.sf(int(counts.max()) - 1, n, rate)
    below = binom.cdf(int(counts.min()), n, rate)
    return min(1.0, 2 * counts.size * float(min(above, below)))


def _bounded(log_chance: float) -> float:
    return math.exp(min(0.0, log_chance))
