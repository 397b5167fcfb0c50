"""From events to epsilon: the accountant of record, a second one, calibration.

The accountant knows the neighbouring relation: under ``add_remove`` a sum moves by at most the
bound of an event, under ``replace_one`` by at most twice that, so one event serves both relations
and none is ever converted by hand.

The number of record is the pessimistic privacy loss distribution of `dp_accounting` (Koskela et al.
2020; Doroshenko et al. 2022): an upper bound on epsilon at every discretisation. `second_opinion`
asks Opacus' Renyi accountant, another code base and another theorem. Its bound is looser and must
never be the smaller one.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from itertools import pairwise
from typing import Literal, get_args

from dp_accounting import NeighboringRelation
from dp_accounting.dp_event import DpEvent
from dp_accounting.pld import PLDAccountant
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr

from dpgen.privacy.events import leaves

Adjacency = Literal["add_remove", "replace_one"]
RELATIONS = {
    "add_remove": NeighboringRelation.ADD_OR_REMOVE_ONE,
    "replace_one": NeighboringRelation.REPLACE_ONE,
}
ACCOUNTANT = "dp_accounting.pld.PLDAccountant, pessimistic"
# Below this the loss distribution needs more memory than a machine has, and epsilon is in the
# hundreds: infinity is the honest bound.
SMALLEST_MULTIPLIER = 0.05


def check_adjacency(adjacency: str) -> None:
    if adjacency not in get_args(Adjacency):
        raise ValueError(
            f"adjacency must be one of {', '.join(get_args(Adjacency))}, got {adjacency!r}"
        )


@dataclass(frozen=True)
class Budget:
    """The most that may be spent: (epsilon, delta)-differential privacy.

    Args:
        epsilon: privacy loss, greater than 0.
        delta: probability mass the loss may exceed epsilon by, in (0, 1); must lie below 1 /
            n_records.
    """

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epsilon) and self.epsilon > 0):
            raise ValueError(f"epsilon must be a number greater than 0, got {self.epsilon}")
        if not 0 < self.delta < 1:
            raise ValueError(f"delta must lie in (0, 1), got {self.delta}")

    def check_records(self, n_records: int) -> None:
        """Refuses a delta that would allow publishing a record outright."""
        if self.delta >= 1 / n_records:
            raise ValueError(
                f"delta must lie below 1 / n_records = {1 / n_records:.3g}, got {self.delta:g}: "
                f"choose at most {default_delta(n_records):g}"
            )


def default_delta(n_records: int) -> float:
    return min(1e-5, 1 / (10 * n_records))


def _pld(event: DpEvent, adjacency: Adjacency, interval: float) -> PLDAccountant:
    accountant = PLDAccountant(RELATIONS[adjacency], value_discretization_interval=interval)
    for leaf in leaves(event):
        accountant.compose(leaf.event)
    return accountant


def epsilon_of(event: DpEvent, delta: float, adjacency: Adjacency) -> float:
    """The epsilon that ``event`` spends at ``delta``: an upper bound, tight to about 0.1 %.

    The discretisation interval starts at 1e-3, goes to 1e-4 in any case, and is then halved until
    epsilon moves by less than 0.1 %; every value on the way is an upper bound, so the smallest is
    returned.
    """
    check_adjacency(adjacency)
    if not leaves(event):
        return 0.0
    if any(leaf.noise_multiplier < SMALLEST_MULTIPLIER for leaf in leaves(event)):
        return math.inf
    return _settle(event, delta, adjacency)[0]


# From one to the next every bound is finer; two neighbours that agree to 0.1 % settle the matter.
INTERVALS = (1e-3, 1e-4, 5e-5, 2.5e-5, 1.25e-5)


def _settle(event: DpEvent, delta: float, adjacency: Adjacency) -> tuple[float, float]:
    """The smallest upper bound on epsilon, and the coarsest interval that is within 0.1 % of it."""
    best = float(_pld(event, adjacency, INTERVALS[0]).get_epsilon(delta))
    for coarse, fine in pairwise(INTERVALS):
        finer = float(_pld(event, adjacency, fine).get_epsilon(delta))
        settled = best - finer <= 1e-3 * best or not math.isfinite(best)
        best = min(best, finer)
        if settled:
            return best, coarse
    return best, INTERVALS[-1]


def delta_of(event: DpEvent, epsilon: float, adjacency: Adjacency) -> float:
    """The delta that ``event`` spends at ``epsilon``: an upper bound (interval 1e-4)."""
    check_adjacency(adjacency)
    if not leaves(event):
        return 0.0
    if any(leaf.noise_multiplier < SMALLEST_MULTIPLIER for leaf in leaves(event)):
        return 1.0
    return float(_pld(event, adjacency, 1e-4).get_delta(epsilon))


def second_opinion(event: DpEvent, delta: float, adjacency: Adjacency) -> float | None:
    """Opacus' Renyi bound on the same event, or None where Opacus has no theorem (Poisson sampling
    under replace-one).
    """
    from opacus.accountants.analysis import rdp

    found = leaves(event)
    if adjacency == "replace_one" and any(leaf.rate < 1 for leaf in found):
        return None
    scale = 2.0 if adjacency == "replace_one" else 1.0
    orders = (
        [1 + x / 10 for x in range(1, 100)]
        + [float(x) for x in range(12, 64)]
        + [128.0, 256.0, 512.0]
    )
    total = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for leaf in found:
            total = total + rdp.compute_rdp(
                q=leaf.rate,
                noise_multiplier=leaf.noise_multiplier / scale,
                steps=leaf.steps,
                orders=orders,
            )
        epsilon, _ = rdp.get_privacy_spent(orders=orders, rdp=total, delta=delta)
    return float(epsilon)


def round_up(epsilon: float, digits: int = 3) -> float:
    """``epsilon`` to ``digits`` significant digits, never smaller than it is: what is printed."""
    if not math.isfinite(epsilon):
        return epsilon
    upwards = Context(prec=digits, rounding=ROUND_CEILING)
    return float(upwards.create_decimal(Decimal(repr(epsilon))))


def gaussian_delta(epsilon: float, mu: float) -> float:
    """delta(epsilon) of the un-sampled Gaussian mechanism with sensitivity / std = mu (Balle and
    Wang 2018, Theorem 8).
    """
    return float(ndtr(mu / 2 - epsilon / mu) - math.exp(epsilon + log_ndtr(-mu / 2 - epsilon / mu)))


def gaussian_mu(budget: Budget) -> float:
    """The largest mu whose un-sampled Gaussian mechanism stays within ``budget``, rounded down in
    the 6th digit.
    """
    root = brentq(
        lambda mu: gaussian_delta(budget.epsilon, mu) - budget.delta, 1e-6, 1e3, xtol=1e-12
    )
    return float(root) * (1 - 1e-6)


def calibrate(
    make_event: Callable[[float], DpEvent], budget: Budget, adjacency: Adjacency
) -> float:
    """The smallest noise multiplier x (to about 0.1 %) at which ``make_event(x)`` spends at most
    ``budget``.

    Guarantee: ``epsilon_of(make_event(x), budget.delta, adjacency) <= budget.epsilon``, by the
    accountant that prints, after x was rounded up to 5 digits. ``make_event`` must not spend more
    as x grows.
    """
    check_adjacency(adjacency)
    fixed = make_event(1e6)
    if (
        _pld(fixed, adjacency, INTERVALS[0]).get_epsilon(budget.delta) > budget.epsilon
        and epsilon_of(fixed, budget.delta, adjacency) > budget.epsilon
    ):
        raise ValueError(
            f"no noise multiplier keeps this plan within epsilon = {budget.epsilon:g}: "
            "what is fixed in it already spends more. Lower warm_start_share"
        )

    def excess(log_multiplier: float, interval: float) -> float:
        event = make_event(math.exp(log_multiplier))
        if any(leaf.noise_multiplier < SMALLEST_MULTIPLIER for leaf in leaves(event)):
            return 50.0
        spent = float(_pld(event, adjacency, interval).get_epsilon(budget.delta))
        return math.log(max(spent, 1e-12) / budget.epsilon) if math.isfinite(spent) else 50.0

    # A coarse root first: at 1e-3 the accountant is ten times faster and still an upper bound.
    high = math.log(2.0)
    while excess(high, INTERVALS[0]) > 0:
        high += math.log(4)
    low = high
    while excess(low, INTERVALS[0]) <= 0 and low > math.log(SMALLEST_MULTIPLIER):
        low -= math.log(2)
    guess = low
    if excess(low, INTERVALS[0]) > 0:
        guess = brentq(excess, low, high, args=(INTERVALS[0],), xtol=1e-2)
    # Then secant steps in log-log, where epsilon(noise) is nearly straight, at the interval that
    # the printing accountant settles at.
    _, interval = _settle(make_event(math.exp(guess)), budget.delta, adjacency)
    aim = -2e-4
    points = [(guess, excess(guess, interval)), (guess + 0.02, excess(guess + 0.02, interval))]
    for _ in range(8):
        (x0, f0), (x1, f1) = points[-2:]
        if -1e-3 <= f1 <= 0 or f0 == f1:
            break
        x2 = x1 + (aim - f1) * (x1 - x0) / (f1 - f0)
        points.append((x2, excess(x2, interval)))
    multiplier = round_up(math.exp(points[-1][0]), 5)
    while epsilon_of(make_event(multiplier), budget.delta, adjacency) > budget.epsilon:
        multiplier = round_up(multiplier * (1 + 2e-4), 5)
    return multiplier
