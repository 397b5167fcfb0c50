"""The plan of a sketch and votes: what they release, and the prices."""

from __future__ import annotations

from dpgen.images.facts import PublicFacts
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.plan import Plan, Stage, split_budget
from dpgen.stages import sketch_plan
from dpgen.stages.sketch_settings import SketchSettings
from dpgen.stages.votes_settings import LABEL, VoteSettings


def plan(
    mode: str, sketch: SketchSettings, votes: VoteSettings, facts: PublicFacts, budget: Budget
) -> Plan:
    """Plans the releases of a sketch, which share what the votes leave of mu^2, and the votes.

    Args:
        mode: what is asked for, as in `VoteSettings.mechanism`.
        sketch, votes: resolved settings.
        facts: public facts of the records.
        budget: what all of it may cost.
    """
    assert votes.share is not None
    n_queries = votes.affordable(facts, budget)
    shares = [(1 - votes.share) * share for share in sketch.shares]
    multipliers, _ = split_budget(
        budget, facts.relation, shares=[*shares, votes.share], rate=1.0, n_steps=0,
        repeats=[*sketch.repeats, n_queries],
    )  # fmt: skip
    mechanism = votes.mechanism(mode, n_queries, multipliers[-1], facts)
    stages = sketch_plan.stages(sketch, facts, multipliers[:-1])
    return Plan((*stages, Stage(LABEL, mechanism)), facts.relation)
