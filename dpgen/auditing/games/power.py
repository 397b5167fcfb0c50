"""Computes the power of a game: the smallest privacy loss that it detects with a stated
probability.

The canary is assumed ideal: its score is normal with standard deviation 1, and with mean mu where
it is in, as on a Gaussian mechanism that is exactly mu-GDP. No score of a mu-GDP mechanism is more
informative (Dong, Roth and Su 2022), so a weaker canary detects less than is stated here, and never
more. The epsilon that belongs to mu is that of a Gaussian mechanism. The claim for a sampled
mechanism may be larger, because its loss has a heavier tail, which a game of this size never
reaches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincinv, ndtr
from scipy.stats import binom

from dpgen.auditing.games.bounds import LARGEST_MU, proportion_high, proportion_low
from dpgen.auditing.games.claims import Claim
from dpgen.privacy.accounting.accountant import round_up

PROBABILITY = 0.9  # with which a loss that is called detectable is detected
FARTHEST, N_SCORES = 9.0, 4001  # grid over scores: standard deviations to either side, and points
# Nodes and weights of Gauss-Hermite quadrature for a standard normal variable.
NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


@dataclass(frozen=True)
class Bound:
    """One bound on a privacy loss, with its power.

    Args:
        name: the theorem, in words.
        refuted: every epsilon below it is refuted at the claim's delta; for a curve, every Gaussian
            mechanism with a smaller epsilon.
        detectable: the smallest epsilon of a Gaussian mechanism at which this bound would have
            refuted the claim; infinite if there is none.
    """

    name: str
    refuted: float
    detectable: float

    def __str__(self) -> str:
        would = (
            f"would have detected epsilon >= {round_up(self.detectable)}"
            if math.isfinite(self.detectable)
            else "too small to detect any epsilon"
        )
        return f"by {self.name} epsilon < {math.floor(100 * self.refuted) / 100:g} refuted, {would}"


def power_sentence(claim: Claim, bounds: Sequence[Bound]) -> str:
    """Puts into words what "no violation" means: which epsilons would have been detected."""
    told = "; ".join(map(str, bounds))
    return (
        f"no violation found; {told} (of a Gaussian mechanism, with probability {PROBABILITY:g}); "
        f"claimed: {claim.sentence}"
    )


def detectable_mu(power: Callable[[float], float], probability: float = PROBABILITY) -> float:
    """Finds the smallest mu at which ``power``, increasing in mu, reaches ``probability``; infinite
    if none does.
    """
    if power(LARGEST_MU) < probability:
        return math.inf
    high = 1.0
    while power(high) < probability:
        high *= 2
    return float(brentq(lambda mu: power(mu) - probability, 0.0, high, xtol=1e-4))


def two_world_power(
    n_test: int, alpha: float, blow_up: Callable[[np.ndarray], np.ndarray], mu: float
) -> float:
    """Computes the exact probability that ``n_test`` runs per world refute a claim when the true
    loss is ``mu``, with the threshold half way between the worlds.
    """
    counts = np.arange(n_test + 1)
    limits = blow_up(proportion_high(counts, n_test, alpha / 2))
    needed = np.searchsorted(proportion_low(counts, n_test, alpha / 2), limits, side="right")
    seen = binom.sf(needed - 1, n_test, ndtr(mu / 2))
    return float(binom.pmf(counts, n_test, ndtr(-mu / 2)) @ seen)


def one_run_power(m: int, n_guesses: int, fewest: int, mu: float) -> float:
    """Estimates the probability of at least ``fewest`` correct guesses, of ``n_guesses`` about the
    highest and the lowest of ``m`` scores in about equal shares, when the true loss is ``mu``.

    A guess about a score beyond s is correct with probability Phi(mu - s) / (Phi(mu - s) +
    Phi(-s)), whatever the other scores are. The score s at which the guesses end varies from run to
    run, independently at either end, as an order statistic of the scores. Simulated games of 100
    canaries or more detect a loss that has a power of 0.9 here in 0.88 to 0.91 of the runs.
    """
    points = np.linspace(-FARTHEST, mu + FARTHEST, N_SCORES)
    beyond = (ndtr(-points) + ndtr(mu - points)) / 2  # the share of all scores above each point
    right_beyond = ndtr(mu - points) / (ndtr(mu - points) + ndtr(-points))

    def right(share: np.ndarray) -> np.ndarray:
        """Returns the share of correct guesses among scores in the upper ``share``; by symmetry, in
        the lower one, too.
        """
        return np.interp(-share, -beyond, right_beyond)

    if 2 * n_guesses <= m:
        ends = right(betaincinv(n_guesses / 2 + 1, m - n_guesses / 2, ndtr(NODES)))
        upper, lower = ends[:, None], ends[None]
        weights = WEIGHTS[:, None] * WEIGHTS
    else:
        # Most scores are guessed, up to the split: the mean of two quartiles, which is normal with
        # variance 1 / (8 m density^2).
        quartile = np.interp(-0.25, -beyond, points)
        density = np.exp(-((quartile - np.array([0.0, mu])) ** 2) / 2).mean() / math.sqrt(math.tau)
        split = mu / 2 + NODES / (density * math.sqrt(8 * m))
        above = np.interp(split, points, beyond)[:, None, None]
        rest = (m - n_guesses) / 2
        part = betaincinv(n_guesses / 2 + 1, rest, ndtr(NODES)) if rest else np.ones_like(NODES)
        upper, lower = right(above * part[:, None]), right((1 - above) * part)
        weights = WEIGHTS[:, None, None] * WEIGHTS[:, None] * WEIGHTS
    seen = binom.sf(fewest - 1, n_guesses, (upper + lower) / 2)
    return float((weights * seen).sum())
