"""DFKD: a private generator and a private classifier that learns a private teacher's labels of the
generator's images.

Liu, Lu, Wang, Zhang, Zeng, Qian, Ge: "Privacy-Preserving Student Learning with Differentially
Private Data-Free Distillation", 2024, arXiv 2409.12384. [R]: only its abstract could be read, so
that this is a reconstruction, to be compared with none of its numbers.

The published flow trains a generator against a fixed teacher that was trained without protection,
lets the teacher label the generator's images, changes the labels by selective randomised response,
and trains a student on them. That protects no record. The generator is a function of the teacher
without any noise, so that no epsilon bounds what it, its images, and whatever has seen them, give
away about a record, however labels are changed. The response protects one label of one made-up
image, which is nobody's; Q labels of a teacher that one record can turn cost Q eps0, and not eps0.

In mode ``sealed`` the teacher is private. Records are touched twice, each time for a price: a
sketch releases embeddings, to which a decoder is fitted; the teacher is trained by noisy descent,
or fitted to released moments. Everything after that is a function of what they released, without
noise or limit (theorems B2, F3 and A3): the generator begins as the decoder, is refined by the
teacher and frozen, draws a set of images once, and the student learns the labels that the teacher
gives them. The randomised response is a free option, `labels.randomise`, for study: no part of the
guarantee rests on it, and it costs accuracy: with a fifth of the training digits held out and
epsilon 10, students got 95.8 and 97.6 % (two seeds), 96.9 and 96.5 % with labels randomised at
epsilon_0 = 3, and 81.9 and 81.5 % at 1. Those of `dpgen.methods.dpdfd`, on the same releases, got
97.6 and 96.9 %.

Mode ``paper`` is the published flow, which has no guarantee and is kept as a negative control.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import nn

from dpgen.configurations.dfkd import DFKDSettings
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
from dpgen.stages.labelled_rehearsal import rehearse_labelled
from dpgen.stages.timing import rehearse_steps
from dpgen.training.data_free import refine
from dpgen.training.labelled import teach_labelled


class DFKD(PrivateGenerator):
    """A class-conditional generator and a classifier, its student, under (epsilon, delta)-DP."""

    id = "dfkd"
    Settings = DFKDSettings
    unverified_modes = frozenset({"paper"})
    kinds: ClassVar[Mapping[str, str]] = {**BY_NAME, "model": "proposer"}

    def __init__(
        self,
        *,
        budget: Budget | None = None,
        settings: DFKDSettings | None = None,
        epsilon: float | None = None,
        delta: float | None = None,
    ) -> None:
        self.budget = asked_budget(budget, epsilon, delta)
        self.settings = settings or DFKDSettings()

    def resolve(self, facts: PublicFacts) -> DFKDSettings:
        settings: DFKDSettings = self.settings.resolved(facts)
        return settings

    def _promise(self, facts: PublicFacts) -> Plan | Claim:
        if (paper := self.resolve(facts).paper) is not None:
            return data_free_claims.claim(paper, self.budget)
        return self.settings.plan(facts, self.budget)

    def rehearse(self, facts: PublicFacts, hardware: Hardware) -> Rehearsal:
        s = self.resolve(facts)
        if s.paper is not None:
            return rehearse_steps(*published_data_free.rehearsed(s.paper, facts), hardware)
        return rehearse_labelled(s.sketch, s.refinement, s.labels, s.student, facts, hardware)

    def _learn(
        self, data: PrivateDataset, promise: Plan | Claim, work: Workplace
    ) -> Mapping[str, nn.Module]:
        s = self.settings
        if isinstance(promise, Claim):
            return published_data_free.train(s.paper, data.facts, data, promise, work)._asdict()
        found = sketch.run(s.sketch, data.facts, data, promise, work)
        released, teacher = found.proposer, found.classifier or found.proposer.labeller
        assert released.decoder is not None and teacher is not None
        decoder = refine(released.decoder, teacher, s.refinement, s.student.student, work)
        model = released.with_decoder(decoder)
        student = teach_labelled(model, teacher, s.labels, s.student, work)
        return {"model": model, "student": student, "classifier": teacher}

    def default_sampler(self, network: str = "model") -> None:
        return None
