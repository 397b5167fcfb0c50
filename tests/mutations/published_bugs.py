"""The published flows of DP-SAD and PGE, sold as certified: what the mode `paper` would be without
its notice.

Each is a generator that plans and charges what the paper claims, and then trains as the paper does,
by the code that the mode `paper` runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from dpgen.data.private import PrivateDataset
from dpgen.data.slots import RecordSlots
from dpgen.images.images import PublicFacts
from dpgen.methods.dp_sad import DPSAD, DPSADSettings
from dpgen.methods.pge import PGE, PGESettings
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.accounting.calibration import gaussian_mu
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum
from dpgen.privacy.plan import Plan, Stage
from dpgen.published import dp_sad as published_dp_sad
from dpgen.published import pge as published_pge
from dpgen.runs.context import Workplace
from dpgen.stages.moments import ClassMeans
from dpgen.stages.release import released
from tests.mutations.bug import Bug

BUDGET = Budget(1.0, 1e-3)
LABEL = "as published"
UNTRAINED = "tests.mutations.fit_detectors.untrained"


def _behind_the_door(data: PrivateDataset, plan: Plan) -> None:
    """Raw records and the stage's noise for a flow that asks for what only a notice opens."""
    run, charge = data._enter(LABEL, plan.stages[0].mechanism)
    opened = (RecordSlots(data._source, data.facts), data.noise(run.keys, charge.plan))
    data.unprotected_records = lambda claim: opened  # type: ignore[method-assign]
    run.executed(charge, 0, plan.stages[0].mechanism.n_releases)


class SoldDPSAD(DPSAD):
    """DP-SAD as published, its noise on the student's output gradients priced as DP-SGD."""

    unverified_modes = frozenset()

    def _promise(self, facts: PublicFacts) -> Plan:
        paper = self.resolve(facts).paper
        assert paper is not None
        claimed = published_dp_sad.claim(paper, facts, self.budget).settings
        mechanism = NoisySGD(
            claimed["rate"], paper.n_steps, claimed["noise_multiplier"], facts.n_records,
            paper.clip_norm,
        )  # fmt: skip
        return Plan((Stage(LABEL, mechanism),), facts.relation)

    def _learn(self, data: PrivateDataset, plan: Plan, work: Workplace) -> Mapping[str, nn.Module]:  # type: ignore[override]
        _behind_the_door(data, plan)
        paper = self.settings.paper
        claimed = published_dp_sad.claim(paper, data.facts, self.budget)
        return {"model": published_dp_sad.train(paper, data.facts, data, claimed, work)}


class SoldPGE(PGE):
    """PGE as published: epsilon is charged for the projections, which never saw a record."""

    unverified_modes = frozenset()

    def _promise(self, facts: PublicFacts) -> Plan:
        statistic = ClassMeans(facts.shape, facts.n_classes, -0.4, radius=6.0, count_weight=1.0)
        mechanism = NoisySum(statistic, 1 / gaussian_mu(self.budget))
        return Plan((Stage(LABEL, mechanism),), facts.relation)

    def _learn(self, data: PrivateDataset, plan: Plan, work: Workplace) -> Mapping[str, nn.Module]:
        mechanism = plan.stages[0].mechanism
        assert isinstance(mechanism, NoisySum)
        released(data, LABEL, mechanism, work.checkpoints, False)
        opened = (RecordSlots(data._source, data.facts), None)
        data.unprotected_records = lambda claim: opened  # type: ignore[assignment, method-assign]
        paper = self.settings.paper
        claimed = published_pge.claim(paper, data.facts, self.budget)
        return {"model": published_pge.train(paper, data.facts, data, claimed, work)}


def dp_sad(student_input: str, kind: type[DPSAD] = SoldDPSAD) -> DPSAD:
    # Fast learning: a teacher that has hardly moved moves no query.
    paper = published_dp_sad.PaperSettings(
        student_input,
        teacher_steps=12,
        n_steps=2,
        batch=8,
        clip_norm=1e-5,
        learning_rate=3e-2,
        n_levels=20,
    )
    return kind(budget=BUDGET, settings=DPSADSettings(mode="paper", paper=paper))


def pge(kind: type[PGE] = SoldPGE) -> PGE:
    paper = published_pge.PaperSettings(n_steps=2, batch=8, n_projections=16)
    return kind(budget=BUDGET, settings=PGESettings(mode="paper", paper=paper))


def sold(make: Callable[[], Any]) -> dict[str, Callable[[Any], Any]]:
    return {UNTRAINED: lambda original: make}


BUGS = (
    Bug(
        "DP-SAD as published, sold as certified",
        "the teacher saw every record without noise, so one record moves every query; and the "
        "student's input is a private image",
        "published", sold(lambda: dp_sad("real")), place="stages.published_dp_sad",
    ),
    Bug(
        "DP-SAD as published on inputs of its own, sold as certified",
        "one record moves all clipped gradients of a step, not only its own",
        "published", sold(lambda: dp_sad("noise")), place="stages.published_dp_sad",
    ),
    Bug(
        "PGE as published, sold as certified",
        "randomised response protects projections, which do not depend on a record; images enter "
        "the loss with neither clip nor noise",
        "published", sold(pge), place="stages.published_pge",
    ),
)  # fmt: skip
