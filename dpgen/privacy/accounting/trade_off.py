"""Bounds how often a membership inference attack on a release can be right.

The attacker sees the release and decides whether a record was in the data. At false positive rate
alpha (the share of non-members taken for members), the true positive rate is at most

    TPR(alpha) = min over epsilon >= 0 of min(delta(epsilon) + exp(epsilon) alpha,
                                              1 - exp(-epsilon) (1 - delta(epsilon) - alpha)),

whatever the attacker knows of the other records (Kairouz, Oh and Viswanath 2015, Theorem 2.1; Dong,
Roth and Su 2022, Proposition 2.12). Each epsilon gives an upper bound by itself, so the minimum
over any grid of epsilons is an upper bound too.
"""

from __future__ import annotations

import math

import numpy as np
from dp_accounting.dp_event import DpEvent

from dpgen.privacy.accounting.accountant import curve_of, round_up
from dpgen.privacy.accounting.curves import Curve
from dpgen.privacy.accounting.relation import Relation

SMALLEST_DELTA = 1e-10  # a smaller delta changes no digit of a stated rate
N_POINTS = 400
N_ROUNDS = 3  # each with a finer grid about the best point: to about 1e-6 of epsilon
DIGITS = 3


def true_positive_rate(event: DpEvent, relation: Relation, false_positive_rate: float) -> float:
    """Returns the largest share of members that an attacker can find, rounded up to three digits.

    Args:
        event: all that was charged, composed.
        relation: the neighbouring relation of the two data sets that the attacker tells apart.
        false_positive_rate: share of non-members that are taken for members, in (0, 1).

    Raises:
        ValueError: false_positive_rate is out of range.
    """
    if not 0 < false_positive_rate < 1:
        raise ValueError(f"false_positive_rate must lie in (0, 1), got {false_positive_rate}")
    curve = curve_of(event, relation)
    if curve is None:
        return 1.0
    return min(round_up(_most_found(curve, false_positive_rate), DIGITS), 1.0)


def right_guesses(event: DpEvent, relation: Relation) -> float:
    """Returns the largest accuracy of an attacker who decides which of two equally likely data sets
    was used: (1 + delta(0)) / 2, rounded up to three digits. Guessing blindly has accuracy 0.5.
    """
    curve = curve_of(event, relation)
    if curve is None:
        return 1.0
    return min(round_up((1 + float(curve.get_delta_for_epsilon(0.0))) / 2, DIGITS), 1.0)


def _most_found(curve: Curve, alpha: float) -> float:
    """Computes the bound on the true positive rate at ``alpha``, rounded up."""
    last = curve.get_epsilon_for_delta(SMALLEST_DELTA)
    last = last if math.isfinite(last) else -math.log(alpha)
    low, high, best = 0.0, max(last, 1e-6), 1.0
    for _ in range(N_ROUNDS):
        epsilons = np.linspace(low, high, N_POINTS)
        deltas = np.asarray(curve.get_delta_for_epsilon(epsilons), np.float64)
        with np.errstate(over="ignore"):  # infinity is a valid upper bound
            caught = deltas + np.exp(epsilons) * alpha
        found = np.minimum(caught, 1 - np.exp(-epsilons) * (1 - deltas - alpha))
        place = int(found.argmin())
        # The rounding error of these operations is far below the digits that are kept.
        best = min(best, float(found[place]) * (1 + 1e-12))
        low, high = epsilons[max(place - 1, 0)], epsilons[min(place + 1, N_POINTS - 1)]
    return best
