"""What an attacker can gain from a release: how often they are right about a record, at most.

An attacker who is told what was released says whether a record was in the data. At most a share
alpha of those that were not is taken for members (false positives). Of those that were, at most

    TPR(alpha) = min over epsilon >= 0 of min(delta(epsilon) + exp(epsilon) alpha,
                                              1 - exp(-epsilon) (1 - delta(epsilon) - alpha))

are found, whatever the attacker knows of the other records (Kairouz, Oh and Viswanath 2015,
Theorem 2.1; Dong, Roth and Su 2022, Proposition 2.12). Each epsilon gives an upper bound by itself,
so that a minimum over some of them is one too, however fine their grid.
"""

from __future__ import annotations

import math

import numpy as np
from dp_accounting.dp_event import DpEvent

from dpgen.privacy.accounting.accountant import curve_of, round_up
from dpgen.privacy.accounting.curves import Curve
from dpgen.privacy.accounting.relation import Relation

SMALLEST_DELTA = 1e-10  # below, it adds nothing to any rate that is stated
N_POINTS = 400
N_ROUNDS = 3  # of a finer grid about the best point: to about 1e-6 of epsilon
DIGITS = 3


def true_positive_rate(event: DpEvent, relation: Relation, false_positive_rate: float) -> float:
    """The share of members that an attacker finds at most, rounded up to three digits.

    Args:
        event: all that was charged, composed.
        relation: what the two data sets differ by that the attacker tells apart.
        false_positive_rate: share of others that are wrongly taken for members, in (0, 1).
    """
    if not 0 < false_positive_rate < 1:
        raise ValueError(f"false_positive_rate must lie in (0, 1), got {false_positive_rate}")
    curve = curve_of(event, relation)
    if curve is None:
        return 1.0
    return min(round_up(_most_found(curve, false_positive_rate), DIGITS), 1.0)


def right_guesses(event: DpEvent, relation: Relation) -> float:
    """How often an attacker is right at most who has to say which of two data sets, both as likely,
    was used: (1 + delta(0)) / 2, rounded up to three digits. A coin is right half of the time.
    """
    curve = curve_of(event, relation)
    if curve is None:
        return 1.0
    return min(round_up((1 + float(curve.get_delta_for_epsilon(0.0))) / 2, DIGITS), 1.0)


def _most_found(curve: Curve, alpha: float) -> float:
    """The bound at ``alpha``, from above."""
    last = curve.get_epsilon_for_delta(SMALLEST_DELTA)
    last = last if math.isfinite(last) else -math.log(alpha)
    low, high, best = 0.0, max(last, 1e-6), 1.0
    for _ in range(N_ROUNDS):
        epsilons = np.linspace(low, high, N_POINTS)
        deltas = np.asarray(curve.get_delta_for_epsilon(epsilons), np.float64)
        with np.errstate(over="ignore"):  # infinity is a bound, too
            caught = deltas + np.exp(epsilons) * alpha
        found = np.minimum(caught, 1 - np.exp(-epsilons) * (1 - deltas - alpha))
        place = int(found.argmin())
        # What these few operations round is far less than a digit that is kept.
        best = min(best, float(found[place]) * (1 + 1e-12))
        low, high = epsilons[max(place - 1, 0)], epsilons[min(place + 1, N_POINTS - 1)]
    return best
