"""The plan of the private teacher: its warm start's releases, then DP-SGD, and their prices."""

from __future__ import annotations

from dpgen.images.facts import PublicFacts
from dpgen.networks.fixed.cosines import Cosines
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.mechanisms.contributions import Statistic
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum
from dpgen.privacy.plan import Plan, Stage, split_budget
from dpgen.stages import sketch_plan
from dpgen.stages.moments import MEANS, SPREAD, ClassMeans, ClassSpread
from dpgen.stages.teacher_settings import Teacher

LABEL = "teacher"  # label of DP-SGD's charge


def plan(settings: Teacher, facts: PublicFacts, budget: Budget) -> Plan:
    """Plans the stages and their prices."""
    s = settings
    rate = s.batch / facts.n_records
    w, f = s.warm_start_share, s.means_share
    parts = s.sketch.shares if s.sketch is not None else [f, 1 - f]
    shares = [w * part for part in parts] if w > 0 else []
    releases, sgd = split_budget(
        budget, facts.relation, shares=shares, rate=rate, n_steps=s.n_steps,
        repeats=None if s.sketch is None else s.sketch.repeats,
    )  # fmt: skip
    if s.sketch is not None:
        stages = sketch_plan.stages(s.sketch, facts, releases)
    else:
        stages = [
            Stage(label, NoisySum(statistic, multiplier))
            for (label, statistic), multiplier in zip(statistics(s, facts), releases, strict=False)
        ]
    if sgd is not None:
        mechanism = NoisySGD(rate, s.n_steps, sgd, facts.n_records, s.clip_norm)
        stages.append(Stage(LABEL, mechanism))
    return Plan(tuple(stages), facts.relation)


def statistics(settings: Teacher, facts: PublicFacts) -> list[tuple[str, Statistic]]:
    """Returns the warm start's statistics; moments have radii at which most images of this size are
    not clipped.
    """
    if settings.sketch is not None:
        return sketch_plan.statistics(settings.sketch, facts)
    scale = (facts.shape[0] * facts.shape[1] * facts.shape[2] / 64) ** 0.5
    means = ClassMeans(
        facts.shape, facts.n_classes, centre=-0.4, radius=6.0 * scale, count_weight=scale
    )
    spread = ClassSpread(Cosines(facts.shape, settings.bands), facts.n_classes, radius=4.5 * scale)
    return [(MEANS, means), (SPREAD, spread)]
