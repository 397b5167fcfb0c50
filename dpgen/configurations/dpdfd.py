"""Settings of DPDFD and its plan."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from dpgen.images.facts import PublicFacts
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.plan import Plan
from dpgen.privacy.statements.notice import unpriced
from dpgen.published.data_free_settings import PaperSettings, check_mode, with_paper
from dpgen.stages import sketch_plan
from dpgen.stages.refined_sketch import require_classes, require_one_teacher, taught
from dpgen.stages.sketch_settings import SPECTRUM, SketchSettings
from dpgen.training.data_free_settings import RefinementSettings, StudentSettings
from dpgen.training.imitation_settings import ImitationSettings
from dpgen.training.refit_settings import require_each_class

SHARE = 0.5  # of mu^2, of the teacher
SKETCH, MOMENTS = PRIORS = "sketch", "moments"


@dataclass(frozen=True)
class DPDFDSettings:
    """Settings of DPDFD.

    Args:
        mode: "sealed", or "paper" (as published, without a verified guarantee).
        prior: what is released for the generator to begin from: "sketch", embeddings to which a
            decoder is fitted, or "moments", a spectrum, which is a Gaussian of low frequencies for
            each class and whose pictures a decoder imitates. Unless given, "moments" where settings
            of ``imitation`` or of a spectrum are, else "sketch".
        sketch: the private stages: the prior, and the teacher, which is its classifier, with half
            of mu^2 unless given, or its labeller, where `labeller_share` is given.
        imitation: how a decoder learns from pictures of the moments, without data, where ``prior``
            is "moments".
        refinement: how the generator is refined by the teacher, without data.
        student: the classifier that learns from the generator's images, without data.
        paper: the published algorithm, in mode paper only.
    """

    mode: str = "sealed"
    prior: str | None = None
    sketch: SketchSettings = field(default_factory=SketchSettings)
    imitation: ImitationSettings | None = None
    refinement: RefinementSettings = field(default_factory=RefinementSettings)
    student: StudentSettings = field(default_factory=StudentSettings)
    paper: PaperSettings | None = None

    def __post_init__(self) -> None:
        check_mode(self, "dpdfd", "sealed")
        if self.prior not in (None, *PRIORS):
            raise ValueError(f"prior must be one of {', '.join(PRIORS)}, got {self.prior!r}")
        spectral = self.sketch.kind == SPECTRUM or self.sketch.spectrum is not None
        if self.prior == SKETCH and (spectral or self.imitation is not None):
            raise ValueError(
                "sketch.kind=spectrum, sketch.spectrum.* and imitation.* are settings of prior "
                "moments: set prior=moments, or drop them"
            )
        if self.own_prior == MOMENTS and self.sketch.kind == "decoder":
            raise ValueError(
                "prior moments is a spectrum, got sketch.kind decoder: drop sketch.kind, or set "
                "prior=sketch and drop imitation.*"
            )
        require_one_teacher(self.sketch, "dpdfd")

    @property
    def own_prior(self) -> str:
        """Returns the prior, also where it is left open."""
        s = self.sketch
        moments = s.kind == SPECTRUM or s.spectrum is not None or self.imitation is not None
        return self.prior or (MOMENTS if moments else SKETCH)

    def resolved(self, facts: PublicFacts) -> DPDFDSettings:
        """Returns the settings with every None filled in for these facts."""
        if self.mode == "paper":
            return with_paper(self, "dpdfd", facts)
        require_classes(facts, "dpdfd")
        prior, imitation = self.own_prior, self.imitation
        kind = "decoder"
        if prior == MOMENTS:
            kind, imitation = SPECTRUM, imitation or ImitationSettings()
            require_each_class("imitation.n_pictures", imitation.n_pictures, facts)
        sketch = SketchSettings.chosen(taught(self.sketch, SHARE, kind), facts)
        return replace(self, prior=prior, sketch=sketch, imitation=imitation)

    def plan(self, facts: PublicFacts, budget: Budget) -> Plan:
        """Plans everything that `fit` will charge. Raises UnverifiedClaim in mode paper."""
        if self.mode == "paper":
            raise unpriced("dpdfd/paper")
        return sketch_plan.plan(self.resolved(facts).sketch, facts, budget)
