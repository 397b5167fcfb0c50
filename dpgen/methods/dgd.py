"""DGD: a private generator and a private classifier by discriminative-generative distillation: from
a private teacher, and from noised votes of teachers on disjoint shards.

Ge, Liu, Wang, Li, Zeng: "Learning Privacy-Preserving Student Networks via Discriminative-Generative
Distillation", TIP 2022, arXiv 2409.02404. [R]: only its abstract could be read, so that this is a
reconstruction, to be compared with none of its numbers. The regularisation is that of Yu et al.
(2019), arXiv 1808.06088 (`dpgen.training.tangent`).

The published flow noises the votes of teachers on disjoint shards, and that protects the votes. But
it trains a generator against a classifier that learned from all records without protection, and an
autoencoder of its images. Both are functions of that classifier without any noise: with one record
less each of their weights may be another. Epsilon is infinite for them, for their images, and for
the student, which learned from both, whatever noise the votes get.

In mode ``sealed`` three oracles answer for the records, each for its share of mu^2. The sketch
releases embeddings, to which a decoder is fitted (0.3); the teacher is trained by noisy descent
(0.3); teachers of disjoint shards vote, under noise, on drawn images (0.4; theorem A2-V). All the
rest is a function of what these released, without noise or limit (theorems B2, F3 and A3): the
generator begins as the decoder and is refined by the teacher, and the autoencoder learns from its
images. The student learns from the votes, and from images that the teacher takes for the class that
was asked for; and its answer is to stay along the manifold that the autoencoder finds, and just off
it.

Where a teacher can be trained privately, neither votes nor regularisation pay visibly. With a fifth
of the training digits held out (287, so that one of them is 0.35 points) and epsilon 10, students
of one release for each of two seeds got, with both 96.9 and 96.5 %; with votes alone 96.5 and 96.5;
regularised alone, after as many steps, 96.2 and 95.5; with neither 96.5 and 96.2; their teachers
94.4 and 95.8. The votes were simulated at the noise of the plan. Images that a student is least
sure of are those on which shards disagree: of their votes, 52 to 89 % kept their class under the
noise.

Mode ``paper`` is the published flow, without the regularisation of its student: it has no guarantee
and is kept as a negative control.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import nn

from dpgen.configurations.dgd import DGDSettings
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
from dpgen.training.autoencoding import manifold
from dpgen.training.data_free import refine
from dpgen.training.regularised import Regularised


class DGD(PrivateGenerator):
    """A class-conditional generator, a private teacher and a classifier that learned from both and
    from votes, under (epsilon, delta)-DP.
    """

    id = "dgd"
    Settings = DGDSettings
    unverified_modes = frozenset({"paper"})
    kinds: ClassVar[Mapping[str, str]] = {**BY_NAME, "model": "proposer"}

    def __init__(
        self,
        *,
        budget: Budget | None = None,
        settings: DGDSettings | None = None,
        epsilon: float | None = None,
        delta: float | None = None,
    ) -> None:
        self.budget = asked_budget(budget, epsilon, delta)
        self.settings = settings or DGDSettings()

    def resolve(self, facts: PublicFacts) -> DGDSettings:
        settings: DGDSettings = self.settings.resolved(facts)
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
            s.sketch, s.votes, self.plan(facts), s.refinement, s.student, facts, hardware,
            s.manifold,
        )  # fmt: skip

    def _learn(
        self, data: PrivateDataset, promise: Plan | Claim, work: Workplace
    ) -> Mapping[str, nn.Module]:
        s = self.settings
        if isinstance(promise, Claim):
            return published_data_free.train(s.paper, data.facts, data, promise, work)._asdict()
        found = sketch.run(s.sketch, data.facts, data, promise, work)
        released, teacher = found.proposer, found.classifier or found.proposer.labeller
        assert released.decoder is not None and teacher is not None
        model = released.with_decoder(
            refine(released.decoder, teacher, s.refinement, s.student, work)
        )
        vae = manifold(model, s.manifold, work) if s.manifold.regularises else None
        learn = Regularised(teacher, vae, s.manifold)
        student = votes.run(s.votes, s.student, model, data, promise, work, learn)
        return {"model": model, "student": student, "classifier": teacher}

    def default_sampler(self, network: str = "model") -> None:
        return None
