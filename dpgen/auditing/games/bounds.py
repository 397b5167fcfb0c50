r"""Bounds a privacy loss from below by counts of correct guesses: pure statistics, with sources.

All bounds hold with confidence ``1 - alpha`` whatever the mechanism and however the guesses were
made, as long as everything but the counts (runs, guesses, thresholds) was fixed before looking at
results. The functions take counts, not scores; `one_run` and `two_world` ensure that everything
else is fixed beforehand.

A claim is given as its blow-up function ``fbar``: an event of probability x on one data set has
probability at most fbar(x) on its neighbour. It is 1 - f of f-DP (Dong, Roth and Su 2022),
increasing and concave; for mu-GDP it is Phi(Phi^-1(x) + mu). Its ``inverse`` gives the smallest
probability on a neighbour of an event of probability y.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincinv, expit, log_ndtr, ndtr, ndtri
from scipy.stats import binom

Inverse = Callable[[float], float]
LARGEST_MU = 100.0  # no feasible number of guesses refutes a larger mu


def gaussian_delta(epsilon: float, mu: float) -> float:
    """Computes delta(epsilon) of mu-GDP by the formula of Balle and Wang (2018, Theorem 8). The
    accountant whose prices are audited computes it in another way.
    """
    behind = epsilon + log_ndtr(-mu / 2 - epsilon / mu)
    return float(ndtr(mu / 2 - epsilon / mu) - math.exp(behind))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Returns the smallest epsilon at which mu-GDP is (epsilon, delta)-DP (Balle and Wang 2018,
    Theorem 8).
    """
    if not math.isfinite(mu):
        return math.inf
    if mu <= 0 or gaussian_delta(0.0, mu) <= delta:
        return 0.0
    high = 1.0
    while gaussian_delta(high, mu) > delta:
        high *= 2
    return float(brentq(lambda e: gaussian_delta(e, mu) - delta, 0.0, high, xtol=1e-10))


def proportion_low(k: np.ndarray | int, n: int, alpha: float) -> np.ndarray:
    """Returns the lower end of the one-sided confidence interval of a proportion, given k of n
    (Clopper and Pearson 1934): the p at which P[Bin(n, p) >= k] = alpha.
    """
    k = np.asarray(k)
    return np.where(k > 0, betaincinv(np.maximum(k, 1), n - np.maximum(k, 1) + 1, alpha), 0.0)


def proportion_high(k: np.ndarray | int, n: int, alpha: float) -> np.ndarray:
    """Returns the upper end: the p at which P[Bin(n, p) <= k] = alpha."""
    return 1 - proportion_low(n - np.asarray(k), n, alpha)


def two_world_epsilon(tpr_low: float, fpr_high: float, delta: float) -> float:
    """Returns the largest epsilon that true and false positive rates refute at ``delta``, at least
    0.

    ``max(ln((tpr_low - delta) / fpr_high), ln((1 - fpr_high - delta) / (1 - tpr_low)))``: the
    definition of (epsilon, delta)-DP for the event and for its complement (Kairouz, Oh and
    Viswanath 2015; Nasr et al. 2021).
    """
    pairs = ((tpr_low - delta, fpr_high), (1 - fpr_high - delta, 1 - tpr_low))
    return max([0.0, *(math.log(gain / cost) for gain, cost in pairs if gain > 0 and cost > 0)])


def two_world_mu(tpr_low: float, fpr_high: float) -> float:
    """Returns the largest mu that true and false positive rates refute, at least 0:
    ``Phi^-1(tpr_low) - Phi^-1(fpr_high)`` (Nasr et al. 2023, the GDP auditor).
    """
    if tpr_low <= fpr_high:
        return 0.0
    return float(ndtri(tpr_low) - ndtri(fpr_high))


def one_run_p_value(m: int, n_guesses: int, n_correct: int, epsilon: float, delta: float) -> float:
    """Bounds the probability of at least ``n_correct`` correct guesses under (epsilon, delta)-DP.

    ``P[W >= v] + 2 m delta max_{1 <= i <= v} P[v - i <= W < v] / i`` with ``W ~ Bin(r, e^epsilon /
    (1 + e^epsilon))`` (Steinke, Nasr and Jagielski 2023, the main theorem). All m canaries count,
    also those not guessed.

    Args:
        m: number of canaries, each in or out by an independent fair coin.
        n_guesses: r, the number of canaries that are guessed, fixed beforehand.
        n_correct: v, the number of correct guesses.
    """
    _check_guesses(m, n_guesses, n_correct)
    p = expit(epsilon)
    tail = float(binom.sf(n_correct - 1, n_guesses, p))
    if delta == 0 or n_correct == 0:
        return tail
    below = np.arange(1, n_correct + 1)
    masses = binom.cdf(n_correct - 1, n_guesses, p) - binom.cdf(n_correct - below - 1, n_guesses, p)
    return min(1.0, tail + 2 * m * delta * float((masses / below).max()))


@lru_cache(maxsize=4096)
def one_run_epsilon(m: int, n_guesses: int, n_correct: int, alpha: float, delta: float) -> float:
    """Returns the largest epsilon that `one_run_p_value` refutes at ``alpha``, rounded down to
    within 1e-6, or 0.
    """

    def refuted(epsilon: float) -> bool:
        return one_run_p_value(m, n_guesses, n_correct, epsilon, delta) <= alpha

    return _largest(refuted, start=1.0)


def one_run_refutes(m: int, n_guesses: int, n_correct: int, alpha: float, inverse: Inverse) -> bool:
    """Returns whether at least ``n_correct`` correct guesses have probability below ``alpha`` under
    a claim (Mahloujifar, Melis and Chaudhuri 2025, the bound for games with abstention).

    Let p_k be the probability of exactly k correct guesses, and for the tail k >= i

        a_i = sum k p_k / m          the mass on canaries guessed right,
        b_i = sum (r - k) p_k / m    the mass on canaries guessed wrong.

    Flipping one canary's coin makes its correct guess wrong and k into k - 1, for the same output.
    The claim implies for the event "right, k >= i" that ``a_i <= fbar(b_{i-1})``, averaged over
    canaries by concavity, so ``b_{i-1} >= inverse(a_i)``. Suppose the tail at v = ``n_correct`` has
    mass alpha. With all of it at v, and with the smallest mass p_{i-1} at each lower i that this
    allows, a_0 + b_0 is as small as possible: mass put elsewhere never reduces it, because it saves
    less mass below than it adds. In fact a_0 + b_0 = r / m: if the computed value is larger, the
    tail is smaller than alpha.
    """
    _check_guesses(m, n_guesses, n_correct)
    right, wrong = alpha * n_correct / m, alpha * (n_guesses - n_correct) / m
    for i in range(n_correct, 0, -1):
        needed = inverse(right)
        if needed <= wrong:
            return False  # nothing changes from here on, and alpha is below 1
        right += (i - 1) / (n_guesses - i + 1) * (needed - wrong)
        wrong = needed
        if right + wrong > n_guesses / m:
            return True
    return False


@lru_cache(maxsize=4096)
def one_run_mu(m: int, n_guesses: int, n_correct: int, alpha: float) -> float:
    """Returns the largest mu whose mu-GDP `one_run_refutes` at ``alpha``, rounded down to within
    1e-6, or 0.
    """

    def refuted(mu: float) -> bool:
        return one_run_refutes(m, n_guesses, n_correct, alpha, lambda y: ndtr(ndtri(y) - mu))

    return _largest(refuted, start=1.0)


def fewest_correct(n_guesses: int, refutes: Callable[[int], bool]) -> int | None:
    """Returns the smallest number of correct guesses that refutes, or None if not even all do.

    Args:
        refutes: whether a number of correct guesses refutes; if true for one, true for every
            larger number.
    """
    if not refutes(n_guesses):
        return None
    low, high = -1, n_guesses
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if refutes(middle) else (middle, high)
    return high


def _largest(refuted: Callable[[float], bool], *, start: float) -> float:
    """Returns the end of the interval from 0 in which ``refuted`` holds, rounded down to within
    1e-6.
    """
    if not refuted(0.0):
        return 0.0
    low, high = 0.0, start
    while refuted(high):
        low, high = high, 2 * high
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def _check_guesses(m: int, n_guesses: int, n_correct: int) -> None:
    if not 0 <= n_correct <= n_guesses <= m:
        raise ValueError(
            "n_correct must lie in [0, n_guesses] and n_guesses in [0, m], "
            f"got {n_correct}, {n_guesses}, {m}"
        )
