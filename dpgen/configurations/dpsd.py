"""Settings of DPSD and its plan."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from dpgen.images.facts import PublicFacts
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.plan import Plan
from dpgen.privacy.statements.notice import unpriced
from dpgen.published.data_free_settings import PaperSettings, check_mode, with_paper
from dpgen.stages import votes_plan
from dpgen.stages.refined_sketch import require_decoder
from dpgen.stages.sketch_settings import SketchSettings
from dpgen.stages.votes_settings import MODES, VoteSettings
from dpgen.training.data_free_settings import RefinementSettings, StudentSettings

SHARE = 0.5  # of mu^2, of the votes
N_ROUNDS = 4


@dataclass(frozen=True)
class DPSDSettings:
    """Settings of DPSD.

    Args:
        mode: what a teacher of a shard answers: "label", its vote for a class; "data", a correction
            of the student's probabilities; or "paper" (as published, without a verified guarantee).
        sketch: the releases to which the decoder is fitted that draws the first images.
        votes: the teachers of disjoint shards, and what they are asked.
        refinement: how the generator is refined by the student, without data.
        student: the classifier that learns from the votes, without data.
        paper: the published algorithm, in mode paper only.
    """

    mode: str = "label"
    sketch: SketchSettings = field(default_factory=SketchSettings)
    votes: VoteSettings = field(default_factory=VoteSettings)
    refinement: RefinementSettings = field(default_factory=RefinementSettings)
    student: StudentSettings = field(default_factory=StudentSettings)
    paper: PaperSettings | None = None

    def __post_init__(self) -> None:
        check_mode(self, "dpsd", *MODES)
        require_decoder(self.sketch, "dpsd")
        if self.sketch.labeller_share > 0 or self.sketch.classifier is not None:
            raise ValueError(
                "dpsd learns classes from votes: drop sketch.labeller_share and "
                "sketch.classifier.*, or take dpdfd"
            )

    def resolved(self, facts: PublicFacts) -> DPSDSettings:
        """Returns the settings with every None filled in for these facts, but the number of
        queries, which the budget decides.
        """
        if self.mode == "paper":
            return with_paper(self, "dpsd", facts)
        sketch = SketchSettings.chosen(replace(self.sketch, kind="decoder"), facts)
        votes = self.votes.resolved(facts, share=SHARE, n_rounds=N_ROUNDS)
        return replace(self, sketch=sketch, votes=votes)

    def plan(self, facts: PublicFacts, budget: Budget) -> Plan:
        """Plans everything that `fit` will charge. Raises UnverifiedClaim in mode paper."""
        if self.mode == "paper":
            raise unpriced("dpsd/paper")
        s = self.resolved(facts)
        return votes_plan.plan(s.mode, s.sketch, s.votes, facts, budget)
