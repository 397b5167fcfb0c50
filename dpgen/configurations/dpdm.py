"""Settings of DPDM and its plan."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from dpgen.generator.sampler_settings import ENDS, SamplerSettings
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
        teacher: the private stages.
        sampling_steps: an earlier name of ``sampler.n_steps``.
        sampler: the default sampler: Heun's method on 18 noise levels, with two evaluations of the
            network each, unless another is named.
    """

    mode: str = "dpsgd"
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    sampling_steps: int | None = None
    sampler: SamplerSettings = field(default_factory=SamplerSettings)

    def __post_init__(self) -> None:
        if self.mode != "dpsgd":
            raise ValueError(f"mode of dpdm must be 'dpsgd', got {self.mode!r}")
        if None not in (self.sampling_steps, self.sampler.n_steps):
            raise ValueError("sampling_steps and sampler.n_steps are one: give one of them")

    def resolved(self, facts: PublicFacts) -> DPDMSettings:
        """Returns the settings with every None filled in for these facts."""
        teacher, sampler = self.teacher_for(facts), self.own_sampler
        return replace(self, teacher=teacher, sampler=sampler, sampling_steps=None)

    @property
    def own_sampler(self) -> SamplerSettings:
        """Returns the default sampler, complete."""
        n_steps = 18 if self.sampling_steps is None else self.sampling_steps
        return self.sampler.from_noise(name="heun", n_steps=n_steps, **ENDS)

    def teacher_for(self, facts: PublicFacts) -> Teacher:
        """Returns the private stages for these facts, complete."""
        return self.teacher.resolved(facts)

    def plan(self, facts: PublicFacts, budget: Budget) -> Plan:
        """Plans everything that `fit` will charge."""
        return teacher_plan.plan(self.teacher_for(facts), facts, budget)
