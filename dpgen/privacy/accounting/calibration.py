"""Finds the noise multiplier that spends a budget and no more."""

from __future__ import annotations

import math
from collections.abc import Callable

from dp_accounting.dp_event import DpEvent
from scipy.optimize import brentq

from dpgen.privacy.accounting.accountant import (
    COARSE,
    INTERVALS,
    SMALLEST_DELTA,
    SMALLEST_MULTIPLIER,
    Budget,
    coarse_epsilon,
    epsilon_of,
    round_up,
    settled,
)
from dpgen.privacy.accounting.events import leaves
from dpgen.privacy.accounting.gaussian import largest_mu
from dpgen.privacy.accounting.relation import Relation

LEAST_NOISE, ALL_NOISE = 1e-6, 1e12  # noise multipliers beyond those of any supported budget
UNSAMPLED = (1e-6, 1e9)  # epsilons of budgets without a Poisson sample, at any delta
SAMPLED = (1e-3, 1e3)


def gaussian_mu(budget: Budget) -> float:
    """Returns the largest mu whose un-sampled Gaussian mechanism stays within ``budget``, rounded
    down.
    """
    check_range(budget, samples=False)
    return largest_mu(budget.epsilon, budget.delta)


def check_range(budget: Budget, *, samples: bool) -> None:
    """Refuses a budget for which no plan can be priced, in one line that states the valid range.

    Args:
        samples: whether the plan draws Poisson samples.
    """
    low, high = SAMPLED if samples else UNSAMPLED
    where = "where a method draws Poisson samples" if samples else "here"
    if not low <= budget.epsilon <= high:
        raise ValueError(
            f"epsilon must lie in {low:g} .. {high:g} {where}, got {budget.epsilon:g}"
        )
    if samples and budget.delta < SMALLEST_DELTA:
        raise ValueError(
            f"delta must be at least {SMALLEST_DELTA:g} {where}, got {budget.delta:g}: a smaller "
            "one is priced for releases of all records only, as in mode sketch of pge"
        )


def calibrate(
    make_event: Callable[[float], DpEvent], budget: Budget, relation: Relation
) -> float:
    """Returns the smallest noise multiplier x (to about 0.1 %) at which ``make_event(x)`` spends at
    most ``budget``.

    Guarantee: ``epsilon_of(make_event(x), budget.delta, relation) <= budget.epsilon``, by the
    accountant of record, for the returned x, which is rounded up to 5 digits. ``make_event`` must
    not spend more as x grows. Raises ValueError, in one line, for a budget outside the supported
    range, and where no x keeps to it or none is small enough to spend it.
    """
    samples = any(leaf.rate < 1 for leaf in leaves(make_event(1.0)))
    check_range(budget, samples=samples)
    # A coarse interval is quick and still an upper bound; it must be fine enough for epsilon.
    coarse = COARSE if budget.epsilon >= 100 else min(INTERVALS[0], budget.epsilon / 100)

    def excess(log_multiplier: float, interval: float) -> float:
        """Returns log(spent epsilon / allowed epsilon)."""
        event = make_event(math.exp(log_multiplier))
        spent = coarse_epsilon(event, budget.delta, relation, interval)
        return math.log(max(spent, 1e-12) / budget.epsilon) if math.isfinite(spent) else 50.0

    if excess(math.log(ALL_NOISE), coarse) > 0 and epsilon_of(
        make_event(ALL_NOISE), budget.delta, relation
    ) > budget.epsilon:
        raise ValueError(
            f"no noise multiplier keeps this plan within epsilon = {budget.epsilon:g}: "
            "its fixed releases already spend more. Lower warm_start_share"
        )
    least = SMALLEST_MULTIPLIER * relation.max_records_per_unit if samples else LEAST_NOISE
    floor = math.log(least)
    guess = _root(lambda x: excess(x, coarse), math.log(2.0), math.log(4.0), floor, xtol=1e-2)
    if guess is None:
        spent = epsilon_of(make_event(least), budget.delta, relation)
        raise ValueError(
            f"epsilon must be at most {spent:.3g} for this plan, got {budget.epsilon:g}: with "
            f"{least:g} times the bound, the least noise that is priced, it spends no more"
        )
    # Search again at the interval that the accountant of record settles at.
    _, interval = settled(make_event(math.exp(guess)), budget.delta, relation)
    fine = _root(lambda x: excess(x, interval), guess + 1e-2, 2e-2, floor, xtol=5e-5)
    multiplier, step = round_up(math.exp(guess if fine is None else fine + 1e-4), 5), 1e-4
    while epsilon_of(make_event(multiplier), budget.delta, relation) > budget.epsilon:
        multiplier, step = round_up(multiplier * (1 + step), 5), 2 * step
    return multiplier


def _root(
    excess: Callable[[float], float], start: float, step: float, least: float, xtol: float
) -> float | None:
    """Finds the zero of a decreasing function ``excess``, in growing steps from ``start``; None if
    it is negative from ``least`` on.
    """
    low = high = max(start, least)
    if excess(high) > 0:
        while excess(high) > 0:
            low, high, step = high, high + step, 2 * step
    else:
        while excess(low) <= 0:
            if low == least:
                return None
            low, high, step = max(low - step, least), low, 2 * step
    return float(brentq(excess, low, high, xtol=xtol))
