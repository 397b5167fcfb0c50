"""Settings of a student of given teachers, and its plan."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

from dpgen.images.facts import PublicFacts
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.plan import Plan
from dpgen.stages.asked_settings import AskedSettings
from dpgen.training.data_free_settings import PupilSettings

MODE = "votes"


@dataclass(frozen=True)
class QueryImages:
    """The images among which teachers are asked, as a statement names them.

    Args:
        source: "set" or "run", with a certificate; or "public", declared so.
        name: their name.
        n_images: number of images.
        sha256: of their pixels.
        origin: digest of the statement of a set or a run; None for public images.
        guarantee: what that statement says, in a sentence; None for public images.
    """

    source: str
    name: str
    n_images: int
    sha256: str
    origin: str | None = None
    guarantee: str | None = None


@dataclass(frozen=True)
class TeachersSettings:
    """Settings of a student of given teachers.

    Args:
        mode: what a teacher answers: "votes", a class for each image.
        names: names of the teachers, in the order of their slots; found in their folder.
        images: what they are asked about; found from what is given.
        votes: how many images are voted on.
        student: the classifier that learns from the votes.
        confidence: probability from which on the student, trained on the votes alone, labels the
            other images, from which it then learns too; 1 leaves them out.
    """

    mode: str = MODE
    names: tuple[str, ...] = ()
    images: QueryImages | None = None
    votes: AskedSettings = field(default_factory=AskedSettings)
    student: PupilSettings = field(default_factory=PupilSettings)
    confidence: float = 0.5

    def __post_init__(self) -> None:
        if self.mode != MODE:
            raise ValueError(f"mode of given teachers must be {MODE!r}, got {self.mode!r}")
        if not 0 < self.confidence <= 1:
            raise ValueError(f"confidence must lie in (0, 1], got {self.confidence}")

    def given(self, names: tuple[str, ...], images: QueryImages) -> Self:
        """Returns the settings for these teachers and images. Raises ValueError where the settings
        name them already.
        """
        if self.names or self.images is not None:
            raise ValueError("names and images are found from what is given: do not set them")
        return replace(self, names=names, images=images)

    def plan(self, facts: PublicFacts, budget: Budget) -> Plan:
        """Plans all queries, which are all that is charged."""
        if self.images is None or len(self.names) != facts.n_records:
            raise ValueError(
                f"settings of given teachers must name {facts.n_records} teachers and images, got "
                f"{len(self.names)} and {self.images}"
            )
        return self.votes.plan(facts, self.images.n_images, budget)
