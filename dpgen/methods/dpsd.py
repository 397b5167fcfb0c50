"""DPSD: a private generator and a private classifier from noised votes of teachers on disjoint
shards.

"Privacy-Preserving Model Transcription with Differentially Private Synthetic Distillation", TPAMI
2026, arXiv 2601.19090. [R]: only its abstract could be read, so that this is a reconstruction, to
be compared with none of its numbers.

The published flow asks one teacher that was trained on all records without protection and noises
its answers one by one. With one record less every answer may be another: Q noised answers are then
mu-GDP with mu = d sqrt(Q) / s for *any* two data sets, or cost Q times the epsilon of a randomised
label, and nothing amplifies it. Here the records are divided into shards by a keyed hash, each with
a teacher of its own: one record changes one vote, and the same noise hides a record instead of a
data set (theorem A2-V). The price is paid in teachers: each sees few records.

Records are touched twice. A sketch releases embeddings, to which a decoder is fitted that draws
images. In rounds a student asks about images that it is least sure of. In mode ``label`` teachers
vote among the classes that it finds likeliest, and it learns from the noised votes; in mode
``data`` each teacher moves the student's probabilities towards its own, by a bounded length, and it
learns from the noised mean. Everything else is a function of what was released (theorems B2, F3 and
A3): the generator is refined by the student.

Votes are for teachers that can only answer. Record by record they do not pay: with a fifth of the
training digits held out and epsilon 10, students got 95.8 and 97.2 % in mode ``label`` and 96.5 and
97.9 % in mode ``data`` (two seeds; 287 digits, so that one of them is 0.35 points), beside 97.6 and
96.5 % of `dpgen.methods.dpdfd`, which gives that half of the budget to a private teacher; and in an
earlier run a student had 96.9 % before the first of 68 votes, from the sketch's images alone.

Of data that are opened with silos (`dpgen.open_images`, ``silo``) each silo is a shard, so that a
teacher is of one silo (theorem A2-S). Silos that are alike vote as shards by hash do, and silos
that lack classes do not. Of 40 silos of the digits, teachers voted on a fifth that was held out:
without noise the most votes were right for 97.6 and 95.8 % by hash, 97.6 and 94.8 % by silos of all
classes, 97.9 and 94.8 % by silos of six classes each, 88.5 and 94.1 % by silos of four; under the
noise of a plan of 78 queries for 89.8 and 89.5, 90.8 and 90.1, 70.6 and 69.5, 45.8 and 46.1 %. The
number of shards that a plan asks for supposes that 0.8 K votes agree, and of silos with four
classes 0.2 K do.

Mode ``paper`` is the published flow, with noise on labels or on answers: it has no guarantee and is
kept as a negative control.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import nn

from dpgen.configurations.dpsd import DPSDSettings
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
from dpgen.stages import sketch, votes
from dpgen.stages.timing import rehearse_steps
from dpgen.stages.votes_rehearsal import rehearse_votes
from dpgen.training.data_free import refine
from dpgen.training.voted import learn


class DPSD(PrivateGenerator):
    """A class-conditional generator and a classifier that learned from votes, under (epsilon,
    delta)-DP.
    """

    id = "dpsd"
    Settings = DPSDSettings
    unverified_modes = frozenset({"paper"})
    kinds: ClassVar[Mapping[str, str]] = {**BY_NAME, "model": "proposer"}

    def __init__(
        self,
        *,
        budget: Budget | None = None,
        settings: DPSDSettings | None = None,
        epsilon: float | None = None,
        delta: float | None = None,
    ) -> None:
        self.budget = asked_budget(budget, epsilon, delta)
        self.settings = settings or DPSDSettings()

    def resolve(self, facts: PublicFacts) -> DPSDSettings:
        settings: DPSDSettings = self.settings.resolved(facts)
        return settings

    def _promise(self, facts: PublicFacts) -> Plan | Claim:
        if (paper := self.resolve(facts).paper) is not None:
            return data_free_claims.claim(paper, self.budget)
        plan = self.settings.plan(facts, self.budget)
        return votes.rehearsed(self.resolve(facts).votes, plan, facts)

    def rehearse(self, facts: PublicFacts, hardware: Hardware) -> Rehearsal:
        s = self.resolve(facts)
        if s.paper is not None:
            return rehearse_steps(*published_data_free.rehearsed(s.paper, facts), hardware)
        return rehearse_votes(
            s.sketch, s.votes, self.plan(facts), s.refinement, s.student, facts, hardware
        )

    def _learn(
        self, data: PrivateDataset, promise: Plan | Claim, work: Workplace
    ) -> Mapping[str, nn.Module]:
        s = self.settings
        if isinstance(promise, Claim):
            return published_data_free.train(s.paper, data.facts, data, promise, work)._asdict()
        released = sketch.run(s.sketch, data.facts, data, promise, work).proposer
        assert released.decoder is not None
        student = votes.run(s.votes, s.student, released, data, promise, work, learn)
        decoder = refine(released.decoder, student, s.refinement, s.student, work)
        return {"model": released.with_decoder(decoder), "student": student}

    def default_sampler(self, network: str = "model") -> None:
        return None
