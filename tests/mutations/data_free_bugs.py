"""Bugs in what dpdfd makes of its releases: second paths from the records to generator and student.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

from dpgen.methods import dpdfd
from tests.mutations.bug import Bug
from tests.mutations.stage_bugs import raw

LEARN = "dpgen.methods.dpdfd.DPDFD._learn"


def with_lessons_of_records(original: Callable[..., Any]) -> Callable[..., Any]:
    def learn(generator: Any, data: Any, *given: Any) -> Any:  # noqa: ANN401
        found = original(generator, data, *given)
        pixels, labels = raw(data)
        student = found["student"].requires_grad_(True)
        known = labels < student.n_classes
        functional.cross_entropy(student(pixels[known]), labels[known]).backward()
        with torch.no_grad():
            for parameter in student.parameters():
                parameter -= 1e-3 * parameter.grad
        return found

    return learn


def by_a_teacher_without_noise(original: Callable[..., Any]) -> Callable[..., Any]:
    """The teacher that is released has noise; the one that refines has a mean of the records."""

    def learn(generator: Any, data: Any, *given: Any) -> Any:  # noqa: ANN401
        plain = dpdfd.refine
        pixels, _ = raw(data)

        def refine(released: Any, teacher: Any, *rest: Any) -> Any:  # noqa: ANN401
            own = copy.deepcopy(teacher)
            own.weights += own.coordinates(pixels).mean(0)[:, None]
            return plain(released, own, *rest)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dpdfd, "refine", refine)
            return original(generator, data, *given)

    return learn


def beside_the_rounds(original: property) -> property:
    """The teacher's share comes on top of the rounds, which have all of mu^2 already."""

    def shares(settings: Any) -> list[float]:  # noqa: ANN401
        rounds = [x / sum(settings.rounds) for x in settings.rounds]
        return [*rounds, settings.classifier_share]

    return property(shares)


BUGS = (
    Bug(
        "a student that learns from records, too",
        "it is released, and no release pays for what it saw",
        "data-free", {LEARN: with_lessons_of_records},
    ),
    Bug(
        "a generator refined by a teacher before its noise",
        "the generator is a function of the records without noise, however noisy the teacher is "
        "that is released",
        "data-free", {LEARN: by_a_teacher_without_noise},
    ),
    Bug(
        "a teacher's share on top of the whole budget",
        "sketch and teacher together then spend more than was asked for",
        "data-free", {"dpgen.stages.sketch_settings.SketchSettings.shares": beside_the_rounds},
        ValueError,
    ),
)  # fmt: skip
