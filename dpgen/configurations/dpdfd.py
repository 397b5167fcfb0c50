"""Settings of DPDFD and its plan."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from dpgen.images.facts import PublicFacts
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.plan import Plan
from dpgen.privacy.statements.notice import unpriced
from dpgen.published.data_free_settings import PaperSettings, check_mode, with_paper
from dpgen.stages import sketch_plan
from dpgen.stages.refined_sketch import (
    require_classes,
    require_decoder,
    require_one_teacher,
    taught,
)
from dpgen.stages.sketch_settings import SketchSettings
from dpgen.training.data_free_settings import RefinementSettings, StudentSettings

SHARE = 0.5  # of mu^2, of the teacher


@dataclass(frozen=True)
class DPDFDSettings:
    """Settings of DPDFD.

    Args:
        mode: "sealed", or "paper" (as published, without a verified guarantee).
        sketch: the private stages: the decoder from which the generator begins, and the teacher,
            which is its classifier, with half of mu^2 unless given, or its labeller, where
            `labeller_share` is given.
        refinement: how the generator is refined by the teacher, without data.
        student: the classifier that learns from the generator's images, without data.
        paper: the published algorithm, in mode paper only.
    """

    mode: str = "sealed"
    sketch: SketchSettings = field(default_factory=SketchSettings)
    refinement: RefinementSettings = field(default_factory=RefinementSettings)
    student: StudentSettings = field(default_factory=StudentSettings)
    paper: PaperSettings | None = None

    def __post_init__(self) -> None:
        check_mode(self, "dpdfd", "sealed")
        require_decoder(self.sketch, "dpdfd")
        require_one_teacher(self.sketch, "dpdfd")

    def resolved(self, facts: PublicFacts) -> DPDFDSettings:
        """Returns the settings with every None filled in for these facts."""
        if self.mode == "paper":
            return with_paper(self, "dpdfd", facts)
        sketch = taught(self.sketch, SHARE)
        require_classes(facts, "dpdfd")
        return replace(self, sketch=SketchSettings.chosen(sketch, facts))

    def plan(self, facts: PublicFacts, budget: Budget) -> Plan:
        """Plans everything that `fit` will charge. Raises UnverifiedClaim in mode paper."""
        if self.mode == "paper":
            raise unpriced("dpdfd/paper")
        return sketch_plan.plan(self.resolved(facts).sketch, facts, budget)
