"""A private student of teachers that silos have trained, and that cannot be trained again.

Private Aggregation of Teacher Ensembles (Papernot et al. 2017, arXiv 1610.05755; 2018, arXiv
1802.08908) with given teachers: each silo hands over a classifier, all of them vote on images that
hold no silo's records, and a student learns the class of the most votes after the noise. The noise
on the counts does not depend on the votes, and neither does the price (theorem A2-T): a silo can
change one vote on each image. The unit of privacy is a teacher with all records behind it.

How many silos it takes is the price of a unit that large: 95 % of the noised votes on an image of
which 80 % of the teachers are sure are right from K = 5.1 sqrt(Q) / (0.8 mu) teachers on, for Q
images and mu-GDP: 32 teachers for 100 images at epsilon 10, 238 at epsilon 1 (delta 1e-5). With
fewer the plan is refused.

What it is worth: with a fifth of the training digits held out, 40 silos of 28 digits each, the test
digits as public images without labels, and epsilon 10, two divisions gave single teachers of 75.6
and 73.7 %, a plurality without noise of 95.8 and 93.4 %, and a student of 92.0 and 90.2 % (287
digits held out, so that one of them is 0.35 points; 157 queries).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn, Protocol

from torch import Tensor, nn

from dpgen.configurations.teachers import TeachersSettings
from dpgen.data.teachers import PrivateTeachers
from dpgen.generator.interface import PrivateGenerator
from dpgen.images.facts import PublicFacts
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.plan import Plan
from dpgen.privacy.statements.given_teachers import METHOD
from dpgen.runs.context import Hardware, Workplace
from dpgen.stages import given_votes
from dpgen.training.pooled import teach_pool


class AskedAbout(Protocol):
    """Images that hold no silo's record."""

    @property
    def images(self) -> Tensor:
        """Returns them, (N, C, H, W) in [-1, 1]."""

    def note(self) -> None:
        """Notes what has to be known later of images that are about to be learned from."""


class Teachers(PrivateGenerator):
    """A classifier that learned from the votes of given teachers, under (epsilon, delta)-DP of each
    teacher.

    Args:
        budget: the most that may be spent.
        settings: with the names of the teachers, and the images that they are asked about.
        queries: these images; None where nothing is to be learned.
    """

    id = METHOD
    Settings = TeachersSettings
    of_teachers: ClassVar[bool] = True
    main: ClassVar[str] = "student"

    def __init__(
        self,
        *,
        budget: Budget,
        settings: TeachersSettings | None = None,
        queries: AskedAbout | None = None,
    ) -> None:
        self.budget, self.queries = budget, queries
        self.settings = settings or TeachersSettings()

    def resolve(self, facts: PublicFacts) -> TeachersSettings:
        settings: TeachersSettings = self.settings
        return settings

    def _promise(self, facts: PublicFacts) -> Plan:
        plan: Plan = self.settings.plan(facts, self.budget)
        return plan

    def rehearse(self, facts: PublicFacts, hardware: Hardware) -> NoReturn:
        raise ValueError(
            "a student of given teachers learns for minutes and is not rehearsed: the plan says "
            "what it costs"
        )

    def _learn(
        self, data: PrivateTeachers, promise: Any, work: Workplace  # noqa: ANN401
    ) -> Mapping[str, nn.Module]:  # fmt: skip
        assert self.queries is not None and isinstance(promise, Plan)
        self.queries.note()
        images = self.queries.images
        voted, s = given_votes.run(images, data, promise, work), self.settings
        student = teach_pool(
            images, voted.rows, voted.labels, data.facts.n_classes, s.student, s.confidence, work
        )
        return {"student": student}

    def _preview(self, path: Any, show: bool) -> None:  # noqa: ANN401
        """Writes no picture: a classifier draws none."""

    def default_sampler(self, network: str = "model") -> None:
        return None
