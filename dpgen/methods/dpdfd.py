"""DPDFD: a private classifier and a private generator by data-free distillation from a private
teacher.

[R] After "Private data-free distillation" as its abstract describes it: a generator makes images
without data, and a student learns from them what a teacher answers. The full text could not be
read, so that this is a reconstruction and is compared with none of its numbers.

The published flow trains the teacher without protection and noises, query by query, what the
student sees of it. Each answer may move with one record, and synthetic queries are no records, so
that no sampling amplifies: Q answers within a ball of radius c under noise of standard deviation s
are mu-GDP for mu = 2 c sqrt(Q) / s, far more than is claimed; and the generator, which descends on
the teacher itself, sees it without any noise.

Mode ``sealed`` touches the records twice, each time for a price: a sketch releases embeddings to
which a decoder is fitted, and a classifier is trained by noisy descent, or fitted to released
moments. Both are released, and everything after them is their post-processing (theorems B2, F3
and A3): the decoder is refined by the teacher, and the student learns from its images.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from dpgen.configurations.dpdfd import DPDFDSettings
from dpgen.data.private import PrivateDataset
from dpgen.generator.budget import asked_budget
from dpgen.generator.interface import PrivateGenerator
from dpgen.images.facts import PublicFacts
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.plan import Plan
from dpgen.runs.context import Hardware, Rehearsal, Workplace
from dpgen.runs.kinds import BY_NAME
from dpgen.stages import sketch
from dpgen.stages.rehearsal import rehearse_data_free
from dpgen.training.data_free import refine
from dpgen.training.students import teach


class DPDFD(PrivateGenerator):
    """A class-conditional generator and a classifier, its student, under (epsilon, delta)-DP."""

    id = "dpdfd"
    Settings = DPDFDSettings
    kinds = {**BY_NAME, "model": "proposer"}  # noqa: RUF012

    def __init__(
        self,
        *,
        budget: Budget | None = None,
        settings: DPDFDSettings | None = None,
        epsilon: float | None = None,
        delta: float | None = None,
    ) -> None:
        self.budget = asked_budget(budget, epsilon, delta)
        self.settings = settings or DPDFDSettings()

    def resolve(self, facts: PublicFacts) -> DPDFDSettings:
        settings: DPDFDSettings = self.settings.resolved(facts)
        return settings

    def _promise(self, facts: PublicFacts) -> Plan:
        return self.settings.plan(facts, self.budget)

    def rehearse(self, facts: PublicFacts, hardware: Hardware) -> Rehearsal:
        s = self.resolve(facts)
        return rehearse_data_free(s.sketch, s.refinement, s.student, facts, hardware)

    def _learn(
        self, data: PrivateDataset, promise: Plan, work: Workplace
    ) -> Mapping[str, nn.Module]:
        s = self.settings
        found = sketch.run(s.sketch, data.facts, data, promise, work)
        released, teacher = found.proposer, found.classifier or found.proposer.labeller
        assert released.decoder is not None and teacher is not None
        decoder = refine(released.decoder, teacher, s.refinement, s.student, work)
        model = released.with_decoder(decoder)
        student = teach(model, teacher, s.student, work)
        return {"model": model, "student": student, "classifier": teacher}

    def default_sampler(self, network: str = "model") -> None:
        return None
