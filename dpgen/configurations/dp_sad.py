"""Settings of DP-SAD and its plan."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from dpgen.generator.sampler_settings import SamplerSettings
from dpgen.images.facts import PublicFacts
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.plan import Plan
from dpgen.privacy.statements.notice import unpriced
from dpgen.published import dp_sad_settings as published_dp_sad_settings
from dpgen.published.dp_sad_settings import PaperSettings
from dpgen.stages import teacher_plan
from dpgen.stages.teacher_settings import Teacher, TeacherSettings
from dpgen.training.distillation_settings import Distillation


@dataclass(frozen=True)
class DPSADSettings:
    """Settings of DP-SAD.

    Args:
        mode: "sealed", or "paper" (as published, without a verified guarantee).
        teacher: the private stages of mode sealed.
        student: the distillation of mode sealed.
        paper: the published algorithm, in mode paper only.
        sampler: the default sampler of ``model``, DDIM unless another is named: in mode sealed down
            the noise levels that the student was distilled on, in mode paper on
            ``paper.sampling_steps`` levels from paper.sigma_max to paper.sigma_min. A teacher is
            sampled along the path from which the student learned.
    """

    mode: str = "sealed"
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    student: Distillation = field(default_factory=Distillation)
    paper: PaperSettings | None = None
    sampler: SamplerSettings = field(default_factory=SamplerSettings)

    def __post_init__(self) -> None:
        if self.mode not in ("sealed", "paper"):
            raise ValueError(f"mode of dp-sad must be 'sealed' or 'paper', got {self.mode!r}")
        if self.mode == "sealed" and self.paper is not None:
            raise ValueError(
                "paper.* are settings of mode paper: set mode=paper, or drop them"
            )
        if self.mode == "paper" and (self.teacher, self.student.resolved()) != (
            TeacherSettings(),
            Distillation().resolved(),
        ):
            raise ValueError(
                "teacher.* and student.* are settings of mode sealed: mode paper has paper.*"
            )

    def resolved(self, facts: PublicFacts) -> DPSADSettings:
        """Returns the settings with every None filled in for these facts."""
        s = replace(self, student=self.student.resolved(), sampler=self.own_sampler)
        if self.mode == "paper":
            paper = published_dp_sad_settings.resolve(self.paper or PaperSettings(), facts)
            return replace(s, paper=paper)
        return replace(s, teacher=self.teacher_for(facts))

    @property
    def own_sampler(self) -> SamplerSettings:
        """Returns the default sampler of ``model``, complete. In mode sealed without settings of
        its own it stays empty, which stands for the student's own ladder.
        """
        if self.mode == "paper":
            paper = self.paper or PaperSettings()
            n_steps, low, high = paper.sampling_steps, paper.sigma_min, paper.sigma_max
        elif self.sampler == SamplerSettings():
            return self.sampler
        else:
            n_steps = self.student.n_steps
            low, high = self.student.sigma_min, self.student.sigma_max
        return self.sampler.from_noise(name="ddim", n_steps=n_steps, sigma_min=low, sigma_max=high)

    def teacher_for(self, facts: PublicFacts) -> Teacher:
        """Returns the private stages of mode sealed for these facts, complete."""
        return self.teacher.resolved(facts)

    def plan(self, facts: PublicFacts, budget: Budget) -> Plan:
        """Plans everything that `fit` will charge. Raises UnverifiedClaim in mode paper."""
        if self.mode == "paper":
            raise unpriced("dp-sad/paper")
        return teacher_plan.plan(self.teacher_for(facts), facts, budget)
