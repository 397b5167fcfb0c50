"""DPDM: diffusion trained by DP-SGD with noise multiplicity; baseline, and teacher of DP-SAD.

Dockhorn, Cao, Vahdat, Kreis: "Differentially Private Diffusion Models", TMLR 2023,
arXiv 2210.09929.
"""

from __future__ import annotations

from torch import nn

from dpgen.configurations.dpdm import DPDMSettings
from dpgen.data.private import PrivateDataset
from dpgen.generator.budget import asked_budget
from dpgen.generator.drawing import n_for_preview
from dpgen.generator.interface import PrivateGenerator
from dpgen.images.facts import PublicFacts
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.plan import Plan
from dpgen.runs.context import Hardware, Rehearsal, Workplace
from dpgen.stages import shared_steps, teacher
from dpgen.stages.rehearsal import rehearse
from samplers import Sampler


class DPDM(PrivateGenerator):
    """Class-conditional diffusion under (epsilon, delta)-DP: warm start, DP-SGD, any sampler."""

    id = "dpdm"
    Settings = DPDMSettings
    public_modes = frozenset({"dpsgd"})
    begun_on = staticmethod(teacher.begun_on)
    assist = staticmethod(shared_steps.assist)

    def __init__(
        self,
        *,
        budget: Budget | None = None,
        settings: DPDMSettings | None = None,
        epsilon: float | None = None,
        delta: float | None = None,
    ) -> None:
        self.budget = asked_budget(budget, epsilon, delta)
        self.settings = settings or DPDMSettings()

    def resolve(self, facts: PublicFacts) -> DPDMSettings:
        settings: DPDMSettings = self.settings.resolved(facts)
        settings.own_sampler.build()  # refuses an invalid sampler before anything is charged
        return settings

    def _promise(self, facts: PublicFacts) -> Plan:
        return self.settings.plan(facts, self.budget)

    def rehearse(self, facts: PublicFacts, hardware: Hardware) -> Rehearsal:
        return rehearse(
            self.settings.teacher_for(facts), facts, hardware, self.default_sampler(),
            n_for_preview(facts),
        )  # fmt: skip

    def _learn(self, data: PrivateDataset, promise: Plan, work: Workplace) -> dict[str, nn.Module]:
        settings, facts = self.settings.teacher_for(data.facts), data.facts
        network, others = teacher.train(settings, facts, data, promise, work)
        return {"model": network, **others}

    def default_sampler(self, network: str = "model") -> Sampler:
        return self.settings.own_sampler.build()
