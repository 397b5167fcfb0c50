"""From events to epsilon: the accountant of record, a second one, calibration.

The accountant knows the neighbouring relation: under ``add_remove`` a sum moves by at most the
bound of an event, under ``replace_one`` by at most twice that, and by at most m times as much where
the unit is a person with m records. So one event serves all relations and none is ever converted by
hand. A bare adjacency in the place of a `Relation` is that of single records.

The number of record is the pessimistic privacy loss distribution of `dp_accounting` (Koskela et al.
2020; Doroshenko et al. 2022): an upper bound on epsilon at every discretisation. `second_opinion`
asks Opacus' Renyi accountant, another code base and other theorems. Its bound is looser and must
never be the smaller one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from functools import lru_cache
from itertools import pairwise

from dp_accounting import NeighboringRelation
from dp_accounting.dp_event import DpEvent
from dp_accounting.pld import privacy_loss_distribution as pld
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr

from dpgen.privacy.events import GaussianLeaf, UnsupportedEvent, compose, leaves
from dpgen.privacy.opinion import second_opinion
from dpgen.privacy.relation import Adjacency, Relation
from dpgen.privacy.units import sampled_unit

__all__ = [
    "Adjacency", "Budget", "Relation", "calibrate", "delta_of", "epsilon_of", "second_opinion",
]  # fmt: skip

RELATIONS = {
    "add_remove": NeighboringRelation.ADD_OR_REMOVE_ONE,
    "replace_one": NeighboringRelation.REPLACE_ONE,
}
ACCOUNTANT = "dp_accounting.pld.PLDAccountant, pessimistic"
# Beyond these the loss distribution needs more memory than a machine has, and epsilon is in the
# hundreds or thousands: infinity is the honest bound.
SMALLEST_MULTIPLIER, LARGEST_MU = 0.05, 60.0
# A plan is priced again by its ledger, its statement and its checks, from the same events: prices
# are remembered, and a few whole distributions, of up to tens of megabytes each.
N_PRICES, N_DISTRIBUTIONS = 4096, 16


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


def _pld(
    event: DpEvent, relation: Adjacency | Relation, interval: float
) -> pld.PrivacyLossDistribution:
    return _composed(tuple(leaves(event)), Relation.of(relation), interval)


@lru_cache(maxsize=N_DISTRIBUTIONS)
def _composed(
    found: tuple[GaussianLeaf, ...], relation: Relation, interval: float
) -> pld.PrivacyLossDistribution:
    total = pld.identity(value_discretization_interval=interval)
    for leaf in found:
        total = total.compose(_pld_of_leaf(leaf, relation, interval))
    return total


def _epsilon(event: DpEvent, delta: float, relation: Relation, interval: float) -> float:
    """An upper bound on epsilon, at one interval."""
    return _epsilon_of_leaves(tuple(leaves(event)), delta, relation, interval)


@lru_cache(maxsize=N_PRICES)
def _epsilon_of_leaves(
    found: tuple[GaussianLeaf, ...], delta: float, relation: Relation, interval: float
) -> float:
    whole = _pld(compose(leaf.event for leaf in found), relation, interval)
    return float(whole.get_epsilon_for_delta(delta))


def _pld_of_leaf(
    leaf: GaussianLeaf, relation: Relation, interval: float
) -> pld.PrivacyLossDistribution:
    m = relation.max_records_per_unit
    if leaf.rate < 1 and m > 1:
        if relation.adjacency != "add_remove":
            raise UnsupportedEvent(
                f"max_records_per_unit must be 1 under {relation.adjacency} where a method draws "
                f"Poisson samples, got {m}: no proof in this package covers it. Take add_remove, "
                "or a method without sampling"
            )
        one = sampled_unit(leaf.noise_multiplier, leaf.rate, m, interval)
        return one.self_compose(leaf.steps)
    # All records of a unit together move an un-sampled sum by at most m times the bound of one.
    std = leaf.noise_multiplier / m
    own = {"value_discretization_interval": interval}
    own["neighboring_relation"] = RELATIONS[relation.adjacency]
    if leaf.rate == 1:
        return pld.from_gaussian_mechanism(std / math.sqrt(leaf.steps), **own)
    return pld.from_gaussian_mechanism(std, sampling_prob=leaf.rate, **own).self_compose(leaf.steps)


def _hopeless(event: DpEvent, relation: Relation) -> bool:
    """Whether there is so little noise that infinity is the honest bound."""
    m, total = relation.max_records_per_unit, 0.0
    for leaf in leaves(event):
        if leaf.noise_multiplier / m < SMALLEST_MULTIPLIER:
            return True
        one = 1 / leaf.noise_multiplier**2
        # What a step adds to mu**2: all of it, or what its sampling leaves in the limit of many.
        sampled = leaf.rate**2 * math.expm1(min(one, 100.0))
        total += leaf.steps * m**2 * (min(one, sampled) if leaf.rate < 1 else one)
    return total > LARGEST_MU**2


def epsilon_of(event: DpEvent, delta: float, relation: Adjacency | Relation) -> float:
    """The epsilon that ``event`` spends at ``delta``: an upper bound, tight to about 0.1 %.

    The discretisation interval starts at 1e-3, goes to 1e-4 in any case, and is then halved until
    epsilon moves by less than 0.1 %; every value on the way is an upper bound, so the smallest is
    returned.
    """
    relation = Relation.of(relation)
    if not leaves(event):
        return 0.0
    if _hopeless(event, relation):
        return math.inf
    return _settle(event, delta, relation)[0]


# From one to the next every bound is finer; two neighbours that agree to 0.1 % settle the matter.
INTERVALS = (1e-3, 1e-4, 5e-5, 2.5e-5, 1.25e-5)


def _settle(event: DpEvent, delta: float, relation: Relation) -> tuple[float, float]:
    """The smallest upper bound on epsilon, and the coarsest interval that is within 0.1 % of it."""
    best = _epsilon(event, delta, relation, INTERVALS[0])
    if best >= 20:  # what the first interval adds, about 1e-3, is nothing there
        return best, INTERVALS[0]
    for coarse, fine in pairwise(INTERVALS):
        finer = _epsilon(event, delta, relation, fine)
        settled = best - finer <= 1e-3 * best or not math.isfinite(best)
        best = min(best, finer)
        if settled:
            return best, coarse
    return best, INTERVALS[-1]


def delta_of(event: DpEvent, epsilon: float, relation: Adjacency | Relation) -> float:
    """The delta that ``event`` spends at ``epsilon``: an upper bound (interval 1e-4)."""
    relation = Relation.of(relation)
    if not leaves(event):
        return 0.0
    if _hopeless(event, relation):
        return 1.0
    return min(1.0, float(_pld(event, relation, INTERVALS[1]).get_delta_for_epsilon(epsilon)))


def curve_of(
    event: DpEvent, relation: Adjacency | Relation
) -> pld.PrivacyLossDistribution | None:
    """All of delta(epsilon), an upper bound, at an interval that loses half a percent at most; None
    where nothing is bounded.
    """
    relation = Relation.of(relation)
    if _hopeless(event, relation):
        return None
    curve = _pld(event, relation, INTERVALS[0])
    # At an epsilon of 1 the first interval loses half a percent, and less at larger ones.
    if curve.get_epsilon_for_delta(1e-5) >= 2:
        return curve
    return _pld(event, relation, INTERVALS[1])


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
    make_event: Callable[[float], DpEvent], budget: Budget, relation: Adjacency | Relation
) -> float:
    """The smallest noise multiplier x (to about 0.1 %) at which ``make_event(x)`` spends at most
    ``budget``.

    Guarantee: ``epsilon_of(make_event(x), budget.delta, relation) <= budget.epsilon``, by the
    accountant that prints, after x was rounded up to 5 digits. ``make_event`` must not spend more
    as x grows.
    """
    relation = Relation.of(relation)
    fixed = make_event(1e6)
    if (
        _epsilon(fixed, budget.delta, relation, INTERVALS[0]) > budget.epsilon
        and epsilon_of(fixed, budget.delta, relation) > budget.epsilon
    ):
        raise ValueError(
            f"no noise multiplier keeps this plan within epsilon = {budget.epsilon:g}: "
            "what is fixed in it already spends more. Lower warm_start_share"
        )

    def excess(log_multiplier: float, interval: float) -> float:
        event = make_event(math.exp(log_multiplier))
        if _hopeless(event, relation):
            return 50.0
        spent = _epsilon(event, budget.delta, relation, interval)
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
    _, interval = _settle(make_event(math.exp(guess)), budget.delta, relation)
    aim = -2e-4
    points = [(guess, excess(guess, interval)), (guess + 0.02, excess(guess + 0.02, interval))]
    for _ in range(8):
        (x0, f0), (x1, f1) = points[-2:]
        if -1e-3 <= f1 <= 0 or f0 == f1:
            break
        x2 = x1 + (aim - f1) * (x1 - x0) / (f1 - f0)
        points.append((x2, excess(x2, interval)))
    multiplier = round_up(math.exp(points[-1][0]), 5)
    while epsilon_of(make_event(multiplier), budget.delta, relation) > budget.epsilon:
        multiplier = round_up(multiplier * (1 + 2e-4), 5)
    return multiplier
