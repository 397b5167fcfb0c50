"""The price of a run, known before any record is read: its stages, each a named mechanism."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from dp_accounting.dp_event import DpEvent

from dpgen.privacy.accounting.accountant import Budget, epsilon_of, round_up
from dpgen.privacy.accounting.calibration import calibrate, gaussian_mu
from dpgen.privacy.accounting.events import GaussianLeaf, compose
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.ledger.charges import Charge, plan_hash
from dpgen.privacy.mechanisms.declared import Mechanism, NoisySGD, NoisySum, OfRecords
from dpgen.privacy.mechanisms.ensemble import FixedEnsemble, NoisyEnsemble

M = TypeVar("M", NoisySGD, NoisySum, NoisyEnsemble, FixedEnsemble)

LAST_DIGIT = 2e-4  # multipliers have 5 digits, rounded up


@dataclass(frozen=True)
class Stage:
    """One mechanism under the label that it is charged by.

    Args:
        label: name of the charge.
        mechanism: what runs on the records.
        max_records_per_unit: the most records of one unit, for which it is priced.
    """

    label: str
    mechanism: Mechanism
    max_records_per_unit: int = 1

    @property
    def of_records(self) -> OfRecords:
        """Returns the mechanism. Raises ValueError for one that asks given teachers."""
        if isinstance(self.mechanism, FixedEnsemble):
            raise ValueError(
                f"stage {self.label!r} asks given teachers, and an audit has only records to put "
                "in: there is no audit of it"
            )
        return self.mechanism

    @property
    def charge(self) -> Charge:
        m = self.mechanism
        plan = plan_hash(self.label, m.event, m.settings, self.max_records_per_unit)
        return Charge(self.label, plan, m.event)


@dataclass(frozen=True)
class Plan:
    """Every mechanism that a run may apply to the records, in order. `fit` charges exactly these.

    Args:
        relation: what neighbouring data sets differ by; it goes into every stage.
    """

    stages: tuple[Stage, ...]
    relation: Relation

    def __post_init__(self) -> None:
        m = self.relation.max_records_per_unit
        stages = tuple(replace(stage, max_records_per_unit=m) for stage in self.stages)
        object.__setattr__(self, "stages", stages)
        labels = [stage.label for stage in self.stages]
        if len(set(labels)) != len(labels):
            raise ValueError(f"stage labels must differ, got {labels}")
        for stage in self.stages:
            # What a teacher moves is priced for slots, what a record moves for records.
            of_teachers = isinstance(stage.mechanism, FixedEnsemble)
            if of_teachers != self.relation.is_of_teachers:
                raise ValueError(
                    f"stage {stage.label!r} has no price for {self.relation.phrase}: a "
                    "FixedEnsemble is priced for teachers in fixed slots, and nothing else is"
                )

    @property
    def event(self) -> DpEvent:
        return compose(stage.mechanism.event for stage in self.stages)

    def epsilon(self, delta: float) -> float:
        return epsilon_of(self.event, delta, self.relation)

    def mechanism(self, label: str, kind: type[M]) -> M | None:
        """Returns the mechanism that is charged by this label; None if there is no such stage.

        Raises TypeError for one of another kind.
        """
        found = next((s.mechanism for s in self.stages if s.label == label), None)
        if found is None or isinstance(found, kind):
            return found
        raise TypeError(f"stage {label!r} must be a {kind.__name__}, got {found!r}")

    def required(self, label: str, kind: type[M]) -> M:
        """Returns the mechanism that is charged by this label. Raises TypeError if there is no such
        stage, or it is of another kind.
        """
        found = self.mechanism(label, kind)
        if found is None:
            raise TypeError(f"the plan must have a stage {label!r}, and has none")
        return found


@dataclass(frozen=True)
class SpentBudget(Budget):
    """A budget whose split is on record: a plan made on it repeats that of a run, without
    calibration.

    Args:
        multipliers: noise multipliers of the run's stages, in the order of their charges.
    """

    multipliers: tuple[float, ...] = ()


def split_budget(
    budget: Budget,
    relation: Relation,
    *,
    shares: Sequence[float],
    rate: float,
    n_steps: int,
    repeats: Sequence[int] | None = None,
) -> tuple[list[float], float | None]:
    """Finds noise multipliers of one-shot Gaussian releases and of DP-SGD that together spend
    ``budget``.

    Each release gets its share of mu**2, the exact composition scale of Gaussians; DP-SGD gets the
    remainder, found by calibrating the composed event, so nothing is lost to the split.

    Args:
        budget: a `SpentBudget` returns the split on its record, or raises ValueError when the
            shares give another one.
        shares: shares of the releases, each greater than 0, with a sum of at most 1; a sum of 1
            leaves DP-SGD out.
        rate, n_steps: rate and number of steps of DP-SGD.
        repeats: how often each release is made, all of them from its one share; None for once.

    Returns:
        (multipliers of the releases, multiplier of DP-SGD or None).
    """
    total, repeats = math.fsum(shares), repeats or [1] * len(shares)
    if len(repeats) != len(shares):
        raise ValueError(f"{len(shares)} releases have shares and {len(repeats)} have repeats")
    if any(not share > 0 for share in shares) or total > 1 + 1e-9:
        raise ValueError(f"shares must be greater than 0 and at most 1 in all, got {list(shares)}")
    if n_steps < 0 or (n_steps == 0 and total < 1 - 1e-9):
        raise ValueError(f"n_steps must be at least 1 unless the shares add up to 1, got {n_steps}")

    # T releases at sqrt(T) times the noise are exactly one release (theorem F3 for Gaussians).
    each = [share / n for share, n in zip(shares, repeats, strict=True)]

    def releases(scale: float) -> list[float]:
        return [round_up(scale / math.sqrt(share), 5) for share in each]

    def priced(scale: float) -> list[DpEvent]:
        found = zip(releases(scale), repeats, strict=True)
        return [GaussianLeaf(1.0, multiplier, n).event for multiplier, n in found]

    if total >= 1 - 1e-9:
        if isinstance(budget, SpentBudget):
            return _recorded(budget, each, None), None
        scale = calibrate(lambda x: compose(priced(x)), budget, relation)
        return releases(scale), None
    moved = 2.0 if relation.adjacency == "replace_one" else 1.0
    scale = moved * relation.max_records_per_unit / gaussian_mu(budget)
    if isinstance(budget, SpentBudget):
        return _recorded(budget, each, scale), budget.multipliers[-1]
    fixed = priced(scale)
    sgd = calibrate(
        lambda x: compose([*fixed, GaussianLeaf(rate, x, n_steps).event]), budget, relation
    )
    return releases(scale), sgd


def _recorded(
    budget: SpentBudget, shares: Sequence[float], scale: float | None
) -> list[float]:
    """Returns the multipliers of the releases that were charged, whose ratios the shares must give.

    Args:
        scale: multiplier of a release with a share of 1; None where calibration found it.
    """
    n = len(budget.multipliers) - (scale is not None)
    if n != len(shares):
        raise ValueError(f"{len(shares)} releases are planned and {n} were charged")
    charged = list(budget.multipliers[:n])
    scales = [m * math.sqrt(share) for m, share in zip(charged, shares, strict=True)]
    wanted = scale if scale is not None else scales[0]
    if any(not math.isclose(found, wanted, rel_tol=LAST_DIGIT) for found in scales):
        raise ValueError(f"shares of {list(shares)} give other noise than was charged")
    return charged
