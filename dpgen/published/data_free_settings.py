"""The settings of data-free distillation as published, and its flows: a row each."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, TypeVar

from dpgen.images.facts import PublicFacts
from dpgen.published.settings import check_positive

S = TypeVar("S", bound=Any)  # settings of a method, with ``mode`` and ``paper``
VOTES = "votes"
RADIUS = 0.5  # of the ball about the student's answer in which a noised answer lies
NORMALISED = 1.0  # norm of a normalised gradient
GENERATOR_STEPS = 200
N_SHARDS = 10


class Flow(NamedTuple):
    """A row of `FLOWS`.

    method: id of the method that the flow was published as.
    bound: largest distance of an answer from its centre, where answers get Gaussian noise; None
        where labels are changed by randomised response, or voted on.
    frozen: whether the generator is trained against the teacher, before there is a student, and
        not against the student.
    """

    method: str
    bound: float | None
    frozen: bool


# The first flow of a method is its default.
FLOWS = {
    "gradient": Flow("dpdfd", NORMALISED, False),
    "label": Flow("dpsd", None, False),
    "data": Flow("dpsd", RADIUS, False),
    "frozen": Flow("dfkd", None, True),
    VOTES: Flow("dgd", None, True),
}


@dataclass(frozen=True)
class PaperSettings:
    """Settings of the published algorithm.

    Args:
        flow: what is noised, where the method was published with a choice: "label" or "data" in
            dpsd; unless given, the method's first.
        candidates: who chooses the classes that a label may become: "student" or "teacher"; for
            flows that change labels.
        teacher_steps: training steps of the unprotected teacher.
        generator_steps: training steps of a generator that is frozen before there is a student,
            200 unless given; in other flows it takes one after each step of the student.
        n_shards: teachers of disjoint shards that vote on labels, 10 unless given; for flow votes.
        n_steps: training steps of the student, each with images of its own.
        batch: images per step.
        learning_rate: learning rate of every network (Adam).
        width: channels of the first block of teacher and student, a multiple of 8.
    """

    flow: str | None = None
    candidates: str = "student"
    teacher_steps: int = 200
    generator_steps: int | None = None
    n_shards: int | None = None
    n_steps: int = 100
    batch: int = 256
    learning_rate: float = 2e-3
    width: int = 16

    def __post_init__(self) -> None:
        if self.flow not in (None, *FLOWS):
            raise ValueError(f"flow must be one of {', '.join(FLOWS)}, got {self.flow!r}")
        if self.candidates not in ("student", "teacher"):
            raise ValueError(f"candidates must be student or teacher, got {self.candidates!r}")
        whole = ("teacher_steps", "n_steps", "batch")
        open_ones = ("generator_steps", "n_shards")
        own = tuple(name for name in open_ones if getattr(self, name) is not None)
        check_positive(self, (*whole, *own), ("learning_rate",))
        if self.width < 8 or self.width % 8:
            raise ValueError(f"width must be a positive multiple of 8, got {self.width}")

    @property
    def kind(self) -> Flow:
        """Returns the row of the flow, which must have been resolved."""
        assert self.flow is not None
        return FLOWS[self.flow]

    @property
    def n_answers(self) -> int:
        """Returns the number of answers of the teacher: Q = b T."""
        return self.batch * self.n_steps

    def briefly_taught(self) -> PaperSettings:
        """Returns settings whose teacher and frozen generator are trained for a few steps, which
        nothing prices; what is priced stays.
        """
        steps = None if self.generator_steps is None else min(self.generator_steps, 3)
        return replace(self, teacher_steps=min(self.teacher_steps, 15), generator_steps=steps)

    def hurried(self) -> PaperSettings:
        """Returns shorter settings for a replay, under which a record still reaches the teacher."""
        return replace(
            self.briefly_taught(), n_steps=min(self.n_steps, 4), batch=min(self.batch, 128)
        )


def resolve(settings: PaperSettings, method: str, facts: PublicFacts) -> PaperSettings:
    """Returns the settings with the flow of a method filled in. Raises ValueError for a flow of
    another method, and for a setting that the flow has no use for.
    """
    own = [name for name, flow in FLOWS.items() if flow.method == method]
    chosen = replace(settings, flow=settings.flow or own[0])
    if chosen.flow not in own:
        raise ValueError(f"paper.flow of {method} must be {' or '.join(own)}, got {chosen.flow!r}")
    responds = chosen.kind.bound is None and chosen.flow != VOTES
    if not responds and chosen.candidates != PaperSettings.candidates:
        raise ValueError(
            f"paper.candidates is for flows that change labels, and {chosen.flow} does not: drop it"
        )
    if chosen.kind.frozen:
        chosen = replace(chosen, generator_steps=chosen.generator_steps or GENERATOR_STEPS)
    elif chosen.generator_steps is not None:
        raise ValueError(
            f"paper.generator_steps is for a generator that is frozen, and that of {chosen.flow} "
            "is not: drop it"
        )
    if chosen.flow == VOTES:
        chosen = replace(chosen, n_shards=chosen.n_shards or N_SHARDS)
    elif chosen.n_shards is not None:
        raise ValueError(f"paper.n_shards is for flow {VOTES}, got flow {chosen.flow}: drop it")
    if facts.n_classes < 2:
        raise ValueError(f"{method} needs records of at least 2 classes, got 1")
    return chosen


def with_paper(settings: S, method: str, facts: PublicFacts) -> S:
    """Returns the settings of a method in mode paper with those of its flow resolved."""
    paper = resolve(settings.paper or PaperSettings(), method, facts)
    return replace(settings, paper=paper)


def check_mode(settings: Any, method: str, *certified: str) -> None:  # noqa: ANN401
    """Refuses a mode that a method does not have, and groups of settings of its other mode.

    Args:
        settings: settings of the method, with ``mode`` and ``paper``.
        method: its id.
        certified: its modes with a guarantee, to which all other groups belong.
    """
    if settings.mode not in (*certified, "paper"):
        named = ", ".join(map(repr, certified))
        raise ValueError(f"mode of {method} must be {named} or 'paper', got {settings.mode!r}")
    if settings.mode != "paper" and settings.paper is not None:
        raise ValueError("paper.* are settings of mode paper: set mode=paper, or drop them")
    if settings.mode != "paper":
        return
    usual = type(settings)()
    groups = [one.name for one in fields(settings) if one.name not in ("mode", "paper")]
    changed = [name for name in groups if getattr(settings, name) != getattr(usual, name)]
    if changed:
        written = [
            name if isinstance(getattr(settings, name), str) else f"{name}.*" for name in changed
        ]
        raise ValueError(
            f"{', '.join(written)} are settings of mode "
            f"{' or '.join(certified)}: mode paper has paper.*"
        )
