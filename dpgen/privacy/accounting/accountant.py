"""Computes epsilon from events: the accountant of record, an upper bound at every delta.

The accountant knows the neighbouring relation: under ``add_remove`` a sum moves by at most the
bound of an event, under ``replace_one`` by at most twice that, and by at most m times as much where
the unit is a person with m records. One event therefore serves all relations, and none is converted
by hand.

Releases of all records have a closed form, at every delta (`dpgen.privacy.accounting.gaussian`).
Where a method samples, the number of record comes from the pessimistic privacy loss distribution of
`dp_accounting` (Koskela et al. 2020; Doroshenko et al. 2022), an upper bound at every
discretisation. `second_opinion` asks Opacus' Renyi accountant, a separate code base that rests on
other theorems. Its bound is looser and must never be the smaller of the two.
`dpgen.privacy.accounting.calibration` goes the other way, from a budget to the noise.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from functools import lru_cache
from itertools import pairwise
from numbers import Real
from typing import Self, cast

from dp_accounting.dp_event import DpEvent
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

from dpgen.privacy.accounting.composition import composed, width
from dpgen.privacy.accounting.curves import Curve, GaussianCurve, LossCurve
from dpgen.privacy.accounting.events import GaussianLeaf, UnsupportedEvent, leaves
from dpgen.privacy.accounting.gaussian import gaussian_delta
from dpgen.privacy.accounting.losses import replaced_record, sampled_record, unsampled_sum
from dpgen.privacy.accounting.opinion import second_opinion
from dpgen.privacy.accounting.relation import Adjacency, Relation
from dpgen.privacy.accounting.units import sampled_unit

__all__ = [
    "Adjacency", "Budget", "Relation", "delta_of", "epsilon_of", "gaussian_delta", "second_opinion",
]  # fmt: skip

ACCOUNTANT = "dp_accounting.pld.PLDAccountant, pessimistic"
CLOSED_FORM = "closed form of Gaussian releases (Balle and Wang 2018, Theorem 8), rounded up"
# With less noise than this on a sampled sum, or losses beyond so many intervals, a distribution
# takes more memory than a machine has, and epsilon is in the thousands: infinity is returned.
SMALLEST_MULTIPLIER, MOST_INTERVALS = 0.02, 1 << 22
# Below this, the rounding error that an FFT leaves in a tail is no longer much smaller than delta.
SMALLEST_DELTA = 1e-12
# Discretisation intervals, tried in this order; the search stops when two in a row agree to 0.1 %.
INTERVALS = (1e-3, 1e-4, 5e-5, 2.5e-5, 1.25e-5)
FINER = (3e-6, 1e-6, 3e-7, 1e-7, 3e-8)  # where epsilon itself is that small
COARSE = 1e-2  # where epsilon is in the thousands
# Cache sizes. Ledger, statement and checks price a plan's events again, so prices are cached, and a
# few whole distributions, of up to tens of megabytes each.
N_PRICES, N_DISTRIBUTIONS = 4096, 16


class OpenDelta:
    """Stands for a delta that depends on a number of records not known yet. It is not a number:
    nothing can be computed with it or written.
    """

    def __repr__(self) -> str:
        return "by the number of records"


@dataclass(frozen=True)
class Budget:
    """The most that may be spent: (epsilon, delta)-differential privacy.

    Args:
        epsilon: privacy loss, greater than 0.
        delta: probability mass the loss may exceed epsilon by, in (0, 1); must lie below 1 /
            n_records. Left out, it is `default_delta` of the data set: see `settled`.
    """

    epsilon: float
    delta: float = cast(float, OpenDelta())

    def __post_init__(self) -> None:
        if self.delta is None:  # as in an edited file; only a delta that is left out is open
            raise TypeError("delta must be a number in (0, 1), got None: leave it out")
        check_ranges(self.epsilon, None if self.is_open else self.delta)

    @classmethod
    def for_records(cls, epsilon: float, delta: float | None, n_records: int) -> Self:
        """Returns the budget of a data set with ``n_records`` records.

        Args:
            delta: ``None`` takes `default_delta`.

        Raises:
            ValueError: epsilon or delta is out of its range, or delta is not below 1 / n_records.
        """
        budget = cls(epsilon, default_delta(n_records) if delta is None else delta)
        budget.check_records(n_records)
        return budget

    @property
    def is_open(self) -> bool:
        """Returns whether delta was left out: such a budget prices and charges nothing."""
        return isinstance(self.delta, OpenDelta)

    def settled(self, n_records: int) -> Budget:
        """Returns this budget for ``n_records`` records, exactly as `for_records` makes it: itself
        if its delta was given.
        """
        if self.is_open:
            return Budget.for_records(float(self.epsilon), None, n_records)
        self.check_records(n_records)
        return self

    def check_records(self, n_records: int) -> None:
        """Refuses a delta that would allow publishing a record outright."""
        if self.delta >= 1 / n_records:
            raise ValueError(
                f"delta must lie below 1 / n_records = {1 / n_records:.3g}, got {self.delta:g}: "
                f"choose at most {default_delta(n_records):g}"
            )


def check_ranges(epsilon: float, delta: float | None) -> None:
    """Refuses an epsilon or a delta that is out of range for every number of records.

    Args:
        delta: ``None`` is left to `default_delta`.

    Raises:
        ValueError: epsilon is no finite number above 0, or delta is none in (0, 1).
    """
    for name, value in (("epsilon", epsilon), ("delta", 0.5 if delta is None else delta)):
        if isinstance(value, bool) or not isinstance(value, Real):
            raise ValueError(f"{name} must be a number, got {value!r:.60}")
    if not 0 < epsilon <= sys.float_info.max:
        raise ValueError(f"epsilon must be a number greater than 0, got {epsilon!s:.40}")
    if delta is not None and not 0 < delta < 1:
        raise ValueError(f"delta must lie in (0, 1), got {delta}")


def default_delta(n_records: int) -> float:
    """Returns the delta that is taken where none is given: min(1e-5, 1 / (10 n_records))."""
    return min(1e-5, 1 / (10 * n_records))


def accountant_of(event: DpEvent) -> str:
    """Names the method that prices ``event``, in words."""
    return ACCOUNTANT if _samples(tuple(leaves(event))) else CLOSED_FORM


def epsilon_of(event: DpEvent, delta: float, relation: Relation) -> float:
    """Returns an upper bound on the epsilon that ``event`` spends at ``delta``.

    It is tight to 1e-12 where nothing is sampled, and otherwise to about 0.1 %: the discretisation
    interval starts at 1e-3, goes to 1e-4 in any case, and is then made finer until epsilon moves by
    less than 0.1 %; every value on the way is an upper bound, so the smallest is returned. It is
    infinity where there is no bound, and where something is sampled and delta is below
    SMALLEST_DELTA. At that delta the allowance for rounding is about 0.5 % of epsilon.
    """
    return settled(event, delta, relation)[0]


def settled(
    event: DpEvent, delta: float, relation: Relation
) -> tuple[float, float]:
    """Returns `epsilon_of`, and the coarsest interval that is within 0.1 % of it."""
    question = tuple(leaves(event)), delta, relation
    best, coarse = _epsilon(*question, INTERVALS[0]), INTERVALS[0]
    if not _samples(question[0]) or best >= 20:  # there the first interval adds next to nothing
        return best, COARSE if 200 <= best < math.inf else coarse
    for coarse, fine in pairwise((*INTERVALS, *FINER)):
        if fine < INTERVALS[-1] and best > 0.02:
            break
        finer = _epsilon(*question, fine)
        near = best - finer <= 1e-3 * best or not math.isfinite(best)
        best = min(best, finer)
        if near:
            return best, coarse
    return best, coarse


def coarse_epsilon(
    event: DpEvent, delta: float, relation: Relation, interval: float
) -> float:
    """Returns an upper bound on epsilon, computed at one discretisation interval."""
    return _epsilon(tuple(leaves(event)), delta, relation, interval)


def delta_of(event: DpEvent, epsilon: float, relation: Relation) -> float:
    """Returns an upper bound on the delta that ``event`` spends at ``epsilon`` (interval 1e-4)."""
    curve = _curve(tuple(leaves(event)), relation, INTERVALS[1])
    return 1.0 if curve is None else float(curve.get_delta_for_epsilon(epsilon))


def curve_of(event: DpEvent, relation: Relation) -> Curve | None:
    """Returns an upper bound on the whole curve delta(epsilon), at an interval that loses half a
    percent at most; None where there is no bound.
    """
    question = tuple(leaves(event)), relation
    curve = _curve(*question, INTERVALS[0])
    # At an epsilon of 1 the first interval loses half a percent, and less at larger ones.
    if curve is None or curve.get_epsilon_for_delta(1e-5) >= 2:
        return curve
    return _curve(*question, INTERVALS[1])


def _samples(found: tuple[GaussianLeaf, ...]) -> bool:
    return any(leaf.rate < 1 for leaf in found)


@lru_cache(maxsize=N_PRICES)
def _epsilon(
    found: tuple[GaussianLeaf, ...], delta: float, relation: Relation, interval: float
) -> float:
    if not 0 <= delta <= 1:  # a delta that is no number would be priced at nothing
        raise ValueError(f"delta must lie in [0, 1], got {delta}")
    if delta < SMALLEST_DELTA and _samples(found):
        return math.inf
    curve = _curve(found, relation, interval)
    return math.inf if curve is None else curve.get_epsilon_for_delta(delta)


@lru_cache(maxsize=N_DISTRIBUTIONS)
def _curve(
    found: tuple[GaussianLeaf, ...], relation: Relation, interval: float
) -> Curve | None:
    """Returns the curve of these releases at one interval, or a coarser one where they need it."""
    m = relation.max_records_per_unit
    # All records of a unit together move an un-sampled sum by at most m times the bound of one.
    moved = m * (2.0 if relation.adjacency == "replace_one" else 1.0)
    whole = [leaf for leaf in found if leaf.rate == 1]
    mu = moved * math.sqrt(math.fsum(x.steps / x.noise_multiplier**2 for x in whole))
    sampled = [leaf for leaf in found if leaf.rate < 1]
    if not sampled:
        return GaussianCurve(mu)
    for leaf in sampled:
        _check_covered(leaf, relation)
    if min(leaf.noise_multiplier for leaf in sampled) / m < SMALLEST_MULTIPLIER:
        return None
    # A sampled release never loses more than the same release of all records.
    largest = max(mu, moved / min(leaf.noise_multiplier for leaf in sampled))
    for d in (interval, COARSE):
        if largest * (largest / 2 + 20) > MOST_INTERVALS * d:
            continue
        parts = [(_losses(leaf, relation, d), leaf.steps) for leaf in sampled]
        if mu > 0:
            parts.append((unsampled_sum(mu, d), 1))
        if sum(map(width, parts)) <= MOST_INTERVALS:
            return LossCurve(composed(parts))
    return None


def _check_covered(leaf: GaussianLeaf, relation: Relation) -> None:
    m = relation.max_records_per_unit
    if m > 1 and relation.adjacency != "add_remove":
        raise UnsupportedEvent(
            f"max_records_per_unit must be 1 under {relation.adjacency} where a method draws "
            f"Poisson samples, got {m}: no proof in this package covers it. Take add_remove, "
            "or a method without sampling"
        )


def _losses(leaf: GaussianLeaf, relation: Relation, interval: float) -> PrivacyLossDistribution:
    """Returns the loss distribution of one step of a sampled release."""
    step = leaf.noise_multiplier, leaf.rate
    if relation.max_records_per_unit > 1:
        return sampled_unit(*step, relation.max_records_per_unit, interval)
    if relation.adjacency == "replace_one":
        return replaced_record(*step, interval)
    return sampled_record(*step, interval)


def round_up(epsilon: float, digits: int = 3) -> float:
    """Rounds ``epsilon`` up to ``digits`` significant digits, as it is printed."""
    if not math.isfinite(epsilon):
        return epsilon
    upwards = Context(prec=digits, rounding=ROUND_CEILING)
    return float(upwards.create_decimal(Decimal(repr(epsilon))))
