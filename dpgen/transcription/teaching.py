"""Makes one private student of teachers that silos have trained, without the silos' records."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dpgen.arguments import speaks_python
from dpgen.configurations.teachers import TeachersSettings
from dpgen.data.teachers import PrivateTeachers, open_teachers
from dpgen.images.classes import Classes
from dpgen.methods.teachers import Teachers
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.ledger.shared_ledger import OverlapRule
from dpgen.privacy.statements.given_teachers import SENTENCE, told
from dpgen.runs.context import Hardware
from dpgen.settings import plain
from dpgen.stages import given_votes
from dpgen.transcription.queries import Queries, read_queries


@dataclass(frozen=True, eq=False)
class Teaching:
    """Teachers and images that fit together, and what asking them will cost. Nothing is charged.

    Args:
        data: the private teachers.
        queries: the images that they are asked about.
        generator: with its settings and its budget.
    """

    data: PrivateTeachers
    queries: Queries
    generator: Teachers

    @property
    def declared(self) -> str:
        """Returns what whoever runs this declares of teachers and images, in words."""
        images = plain(asdict(self.queries.told))
        return str(told(list(self.data.names), images)[SENTENCE])

    @property
    def price(self) -> list[str]:
        """Returns what will be charged, in lines."""
        facts, delta = self.data.facts, self.generator.budget.delta
        plan = self.generator.plan(facts)
        return given_votes.price_of(plan, facts, delta, len(self.queries.images))

    def run(
        self, out: str | Path, *, seed: int | None = None, hardware: Hardware | None = None,
        show: bool = False,
    ) -> Teachers:  # fmt: skip
        """Charges the teachers, asks them, and trains the student; see `transcribe_teachers`."""
        return self.generator.fit(self.data, out=out, seed=seed, hardware=hardware, show=show)


def require_apart(folder: str | Path, out: str | Path) -> None:
    """Refuses a run folder in the folder of the teachers, where it would be read as one of them."""
    whole = Path(folder).resolve()
    if Path(out).resolve().is_relative_to(whole):
        raise ValueError(
            f"the run folder {out} must not lie in {folder}, where everything is a teacher: name a "
            "place outside"
        )


def open_teaching(
    teachers: str | Path | PrivateTeachers,
    *,
    images: str | Path | None = None,
    public: Any = None,  # noqa: ANN401
    budget: Budget,
    settings: TeachersSettings | None = None,
    classes: Classes | None = None,
    ledger: str | Path | None = None,
    limit: Budget | None = None,
    overlap: OverlapRule = "refuse",
) -> Teaching:
    """Opens teachers and images, and plans what asking them costs; arguments and errors as for
    `transcribe_teachers`. Nothing is charged.
    """
    data = teachers
    if not isinstance(data, PrivateTeachers):
        data = open_teachers(data, classes=classes, ledger=ledger, limit=limit, overlap=overlap)
    queries = read_queries(None if images is None else Path(images), public, data.facts)
    settled = budget.settled(data.facts.n_records)
    whole = (settings or TeachersSettings()).given(data.names, queries.told)
    generator = Teachers(budget=settled, settings=whole, queries=queries)
    generator.plan(data.facts)  # too few teachers are refused here
    return Teaching(data, queries, generator)


@speaks_python
def transcribe_teachers(
    teachers: str | Path | PrivateTeachers,
    out: str | Path,
    *,
    images: str | Path | None = None,
    public: Any = None,  # noqa: ANN401
    budget: Budget,
    settings: TeachersSettings | None = None,
    classes: Classes | None = None,
    ledger: str | Path | None = None,
    limit: Budget | None = None,
    overlap: OverlapRule = "refuse",
    seed: int | None = None,
    hardware: Hardware | None = None,
    show: bool = False,
) -> Teachers:
    """Makes one private student of teachers that silos have trained, without the silos' records.

    The teachers vote on images that hold no silo's records, and the student learns the noised
    votes. Guarantee: (epsilon, delta)-differential privacy of each teacher with all records behind
    it (theorem A2-T), under what whoever runs this declares: that no record is behind two teachers,
    that they were trained independently and from no common private start, and that their number and
    names are public. The teachers are charged as a data set is, before the first is asked; the same
    teachers in another folder or order are recognised.

    Args:
        teachers: folder with a file or a folder for each silo, as `dpgen.data.teacher_files` says.
        out: run folder to make; an unfinished run of the same configuration in it is resumed and
            pays nothing again, a finished one is loaded.
        images: a synthetic set with a certificate, or a run with one.
        public: images that you declare public, in place of ``images``.
        budget: the most that may be spent.
        settings: how; None takes the defaults.
        classes: names of the classes in the order of the scores, where no file states them.
        ledger, limit, overlap: as for `open_images`.
        seed: seed of all public randomness; None draws and records one.
        hardware: device; None takes the default.
        show: whether to show progress bars on standard error.

    Raises:
        ValueError: too few teachers for the budget, or teachers or images are refused.
        UnverifiedClaim: ``images`` carry a notice.
        BudgetExceeded: the teachers' ledger has no room; none was asked.
    """
    if not isinstance(teachers, PrivateTeachers):
        require_apart(teachers, out)
    found = open_teaching(
        teachers, images=images, public=public, budget=budget, settings=settings, classes=classes,
        ledger=ledger, limit=limit, overlap=overlap,
    )  # fmt: skip
    return found.run(out, seed=seed, hardware=hardware, show=show)
