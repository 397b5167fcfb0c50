"""Settings of DPDM and its plan."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from dpgen.images.facts import PublicFacts
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.plan import Plan
from dpgen.stages import teacher_plan
from dpgen.stages.teacher_settings import Teacher, TeacherSettings


@dataclass(frozen=True)
class DPDMSettings:
    """Settings of DPDM: those of its private stages, and how its samples are drawn.

    Args:
        mode: "dpsgd", the only one.
        sampling_steps: noise levels of the default sampler (Heun: two evaluations each).
    """

    mode: str = "dpsgd"
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    sampling_steps: int = 18

    def __post_init__(self) -> None:
        if self.mode != "dpsgd":
            raise ValueError(f"mode of dpdm must be 'dpsgd', got {self.mode!r}")

    def resolved(self, facts: PublicFacts) -> DPDMSettings:
        """With every ``None`` filled in for these facts."""
        return replace(self, teacher=self.teacher_for(facts))

    def teacher_for(self, facts: PublicFacts) -> Teacher:
        """The private stages for these facts, with nothing left open."""
        return self.teacher.resolved(facts)

    def plan(self, facts: PublicFacts, budget: Budget) -> Plan:
        """Everything that `fit` will charge."""
        return teacher_plan.plan(self.teacher_for(facts), facts, budget)
