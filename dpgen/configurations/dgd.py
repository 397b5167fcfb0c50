"""Settings of DGD and its plan."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from dpgen.images.facts import PublicFacts
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.plan import Plan
from dpgen.privacy.statements.notice import unpriced
from dpgen.published.data_free_settings import PaperSettings, check_mode, with_paper
from dpgen.stages import votes_plan
from dpgen.stages.refined_sketch import require_decoder, require_one_teacher, taught
from dpgen.stages.sketch_settings import SketchSettings
from dpgen.stages.votes_settings import VoteSettings
from dpgen.training.data_free_settings import RefinementSettings, StudentSettings
from dpgen.training.manifold_settings import ManifoldSettings

SHARE = 0.4  # of mu^2, of the votes
N_ROUNDS = 2  # a student of each round takes twice as long as one of dpsd
TEACHER_SHARE = 0.5  # of the rest, of the teacher


@dataclass(frozen=True)
class DGDSettings:
    """Settings of DGD.

    Args:
        mode: "sealed", or "paper" (as published, without a verified guarantee).
        sketch: the decoder from which the generator begins, and the teacher, which is its
            classifier, with half of what the votes leave unless given, or its labeller, where
            `labeller_share` is given. Shares are of what the votes leave.
        votes: the teachers of disjoint shards, and what they are asked.
        refinement: how the generator is refined by the teacher, without data.
        manifold: the autoencoder of the generator's images, and how it regularises the student,
            without data.
        student: the classifier that learns from the votes, without data.
        paper: the published algorithm, in mode paper only.
    """

    mode: str = "sealed"
    sketch: SketchSettings = field(default_factory=SketchSettings)
    votes: VoteSettings = field(default_factory=VoteSettings)
    refinement: RefinementSettings = field(default_factory=RefinementSettings)
    manifold: ManifoldSettings = field(default_factory=ManifoldSettings)
    student: StudentSettings = field(default_factory=StudentSettings)
    paper: PaperSettings | None = None

    def __post_init__(self) -> None:
        check_mode(self, "dgd", "sealed")
        require_decoder(self.sketch, "dgd")
        require_one_teacher(self.sketch, "dgd")
        if self.votes.radius != VoteSettings.radius:
            raise ValueError(
                "dgd asks for votes, and votes.radius is of corrections: drop it, or take dpsd, "
                "mode data"
            )

    def resolved(self, facts: PublicFacts) -> DGDSettings:
        """Returns the settings with every None filled in for these facts, but the number of
        queries, which the budget decides.
        """
        if self.mode == "paper":
            return with_paper(self, "dgd", facts)
        votes = self.votes.resolved(facts, share=SHARE, n_rounds=N_ROUNDS)
        sketch = taught(self.sketch, TEACHER_SHARE)
        return replace(self, sketch=SketchSettings.chosen(sketch, facts), votes=votes)

    def plan(self, facts: PublicFacts, budget: Budget) -> Plan:
        """Plans everything that `fit` will charge. Raises UnverifiedClaim in mode paper."""
        if self.mode == "paper":
            raise unpriced("dgd/paper")
        s = self.resolved(facts)
        return votes_plan.plan("label", s.sketch, s.votes, facts, budget)
