"""PGE: mode ``dpsgd``, a private score, sampled by Hamiltonian dynamics; mode ``sketch``, a score
fitted to a few released embeddings in minutes on a CPU; and mode ``paper``, the published
algorithm, which has no guarantee and is kept as a negative control.

Liu, Wang, Guo, Li, Zhuang, Wang, Ge: "Private Gradient Estimation is Useful for Generative
Modeling", ACM MM 2024, arXiv 2305.10662. The published method randomises the projection vectors of
sliced score matching; they do not depend on the records, so randomising them protects nothing. In
mode ``dpsgd`` the gradients of the same losses are clipped record by record, and noised; the
residual enhancement corrects a Gaussian score that is released first; Hamiltonian sampling reads no
record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import nn

from dpgen.configurations.pge import PGESettings
from dpgen.data.private import PrivateDataset
from dpgen.generator.budget import asked_budget
from dpgen.generator.drawing import n_for_preview
from dpgen.generator.interface import PrivateGenerator
from dpgen.images.facts import PublicFacts
from dpgen.networks.proposer import Proposer
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.plan import Plan
from dpgen.privacy.statements.notice import Claim
from dpgen.published import pge as published_pge
from dpgen.runs.context import Hardware, Rehearsal, Workplace
from dpgen.stages import shared_steps, sketch, teacher
from dpgen.stages.rehearsal import rehearse, rehearse_sketch
from dpgen.training.refit import refit
from samplers import Sampler


class PGE(PrivateGenerator):
    """A class-conditional score under (epsilon, delta)-DP, and a sampler that follows it."""

    id = "pge"
    Settings = PGESettings
    unverified_modes = frozenset({"paper"})
    public_modes = frozenset({"dpsgd"})
    begun_on = staticmethod(teacher.begun_on)
    assist = staticmethod(shared_steps.assist)

    def __init__(
        self,
        *,
        budget: Budget | None = None,
        settings: PGESettings | None = None,
        epsilon: float | None = None,
        delta: float | None = None,
    ) -> None:
        self.budget = asked_budget(budget, epsilon, delta)
        self.settings = settings or PGESettings()

    def resolve(self, facts: PublicFacts) -> PGESettings:
        settings: PGESettings = self.settings.resolved(facts)
        settings.sampler.build()  # refuses an invalid sampler before anything is charged
        return settings

    def _promise(self, facts: PublicFacts) -> Plan | Claim:
        if (paper := self.resolve(facts).paper) is not None:
            return published_pge.claim(paper, facts, self.budget)
        return self.settings.plan(facts, self.budget)

    def rehearse(self, facts: PublicFacts, hardware: Hardware) -> Rehearsal:
        s = self.resolve(facts)
        if s.sketch is not None and s.score is not None:
            return rehearse_sketch(
                s.sketch, s.score, facts, hardware, s.sampler.build(), n_for_preview(facts)
            )
        return rehearse(
            s.teacher_for(facts), facts, hardware, s.sampler.build(), n_for_preview(facts)
        )

    def _learn(
        self, data: PrivateDataset, promise: Plan | Claim, work: Workplace
    ) -> Mapping[str, nn.Module]:
        s, facts = self.settings, data.facts
        if isinstance(promise, Claim):
            return {"model": published_pge.train(s.paper, facts, data, promise, work)}
        if s.mode == "sketch":
            found = sketch.run(s.sketch, facts, data, promise, work)
            model = refit(found.proposer, s.score, facts, work)
            return {"model": model, "proposals": found.proposer, **found.own}
        network, others = teacher.train(s.teacher_for(facts), facts, data, promise, work)
        return {"model": network, **others}

    @property
    def proposer(self) -> Proposer | None:
        """Returns the sketch's decoder, in mode sketch unless the sampler's start is noise."""
        if self.settings.sampler.start != "proposals":
            return None
        return cast(Proposer, self.networks["proposals"])

    def default_sampler(self, network: str = "model") -> Sampler:
        return self.settings.sampler.build()
