"""DPDFD: a private generator and a private classifier by data-free distillation from a private
teacher.

Liu, Wang, Li, Zeng, Ge: "Model Conversion via Differentially Private Data-Free Distillation", IJCAI
2023, arXiv 2304.12528. [R]: only its abstract could be read, so that this is a reconstruction, to
be compared with none of its numbers.

The published flow converts a teacher that was trained without protection: a generator makes images,
the gradients that teacher and student give on them are normalised and noised before the student
descends, and the generator descends against the student. The noise protects one answer, and with
one record less every answer of such a teacher may be another. Q answers, each in a ball of radius c
and under noise of standard deviation s, are mu-GDP with mu = 2 c sqrt(Q) / s. It does not matter
how many images a step has: a mean of b answers moves by 2 c like one of them, and drawing images
amplifies nothing, as they are no records. A proof for records cannot rest on such noise unless it
hides nearly all of what the teacher knows.

In mode ``sealed`` the teacher is private. Records are touched twice, each time for a price: a prior
is released, and the teacher is trained by noisy descent, or fitted to released moments. The prior
is a sketch, which releases embeddings, to which a decoder is fitted; or moments, a Gaussian of low
frequencies for each class (`dpgen.stages.spectrum`), whose pictures a decoder imitates. Everything
after that is a function of what was released, without noise or limit (theorems B2, F3 and A3): the
generator begins as the decoder and is refined by the teacher itself, and the student learns from
its images. With a fifth of the training digits held out, a CNN of refined samples got 95.5 and
95.8 % with a sketch and 94.8 and 92.0 % with moments at epsilon 10, 83.6 and 82.9 % against 76.0
and 79.4 % at epsilon 1 (two seeds; assets/dpdfd.md). What moments of images in colour are worth was
not measured.

Mode ``paper`` is the published flow, which has no guarantee and is kept as a negative control.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import nn

from dpgen.configurations.dpdfd import DPDFDSettings
from dpgen.data.private import PrivateDataset
from dpgen.generator.budget import asked_budget
from dpgen.generator.interface import PrivateGenerator
from dpgen.images.facts import PublicFacts
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.plan import Plan
from dpgen.privacy.statements.notice import Claim
from dpgen.published import data_free as published_data_free
from dpgen.published import data_free_claims
from dpgen.runs.context import Hardware, Rehearsal, Workplace
from dpgen.runs.kinds import BY_NAME
from dpgen.stages import sketch
from dpgen.stages.rehearsal import rehearse_data_free
from dpgen.stages.timing import rehearse_steps
from dpgen.training.data_free import refine
from dpgen.training.imitation import imitate
from dpgen.training.students import teach


class DPDFD(PrivateGenerator):
    """A class-conditional generator and a classifier, its student, under (epsilon, delta)-DP."""

    id = "dpdfd"
    Settings = DPDFDSettings
    unverified_modes = frozenset({"paper"})
    kinds: ClassVar[Mapping[str, str]] = {**BY_NAME, "model": "proposer"}

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

    def _promise(self, facts: PublicFacts) -> Plan | Claim:
        if (paper := self.resolve(facts).paper) is not None:
            return data_free_claims.claim(paper, self.budget)
        return self.settings.plan(facts, self.budget)

    def rehearse(self, facts: PublicFacts, hardware: Hardware) -> Rehearsal:
        s = self.resolve(facts)
        if s.paper is not None:
            return rehearse_steps(*published_data_free.rehearsed(s.paper, facts), hardware)
        return rehearse_data_free(
            s.sketch, s.refinement, s.student, facts, hardware, s.imitation
        )

    def _learn(
        self, data: PrivateDataset, promise: Plan | Claim, work: Workplace
    ) -> Mapping[str, nn.Module]:
        s = self.settings
        if isinstance(promise, Claim):
            return published_data_free.train(s.paper, data.facts, data, promise, work)._asdict()
        found = sketch.run(s.sketch, data.facts, data, promise, work)
        released, teacher = found.proposer, found.classifier or found.proposer.labeller
        assert teacher is not None
        if released.spectrum is not None:
            bare = sketch.untrained(data.facts, work.seed)
            released = released.with_decoder(imitate(bare, released.spectrum, s.imitation, work))
        assert released.decoder is not None
        decoder = refine(released.decoder, teacher, s.refinement, s.student, work)
        model = released.with_decoder(decoder)
        student = teach(model, teacher, s.student, work)
        return {"model": model, "student": student, "classifier": teacher}

    def default_sampler(self, network: str = "model") -> None:
        return None
