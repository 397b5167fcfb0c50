"""Bugs in the ensemble of given teachers: slots that cost less than they move, and accounts that do
not know the teachers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpgen.privacy.accounting.events import GaussianLeaf
from dpgen.privacy.ledger.chain import LedgerError
from tests.mutations.bug import Bug

HERE = "dpgen.privacy.mechanisms."
FIXED = HERE + "ensemble.FixedEnsemble."
SOURCE = "dpgen.data.teachers.TeacherSource."


def one_query(original: property) -> property:
    return property(lambda m: GaussianLeaf(1.0, m.noise_multiplier, 1))


def of_one_in_k(original: property) -> property:
    return property(lambda m: GaussianLeaf(1 / m.n_teachers, m.noise_multiplier, m.n_queries))


def on_a_mean(original: property) -> property:
    return property(lambda m: m.noise_multiplier * m.answer.diameter / m.n_teachers)


def over_those_that_answer(original: Callable[..., Any]) -> Callable[..., Iterator[Tensor]]:
    """Every vote counts as if all teachers had voted."""

    def answers(mechanism: Any, found: Sequence[Any], *given: Any) -> Iterator[Tensor]:  # noqa: ANN401
        said = list(original(mechanism, found, *given))
        voted = max(1, sum(bool(one.any()) for one in said))
        return (len(said) / voted * one for one in said)

    return answers


def whatever_the_sum(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def add(source: Any, total: Tensor, std: float, **where: Any) -> Tensor:  # noqa: ANN401
        return total + original(source, torch.zeros_like(total), std, **where)

    return add


def by_name(original: Callable[..., Any]) -> Callable[..., Any]:
    """A teacher is known by the name of its slot."""

    def raw_records(source: Any) -> Iterator[tuple[np.ndarray, int]]:  # noqa: ANN401
        for one in source._given:
            content = one.name.encode().ljust(32, b".")
            yield np.frombuffer(content, np.uint8).reshape(1, -1, 1), 0

    return raw_records


def with_its_place(original: Callable[..., Any]) -> Callable[..., Any]:
    """A teacher is known by its weights and its place among the others."""

    def raw_records(source: Any) -> Iterator[tuple[np.ndarray, int]]:  # noqa: ANN401
        return ((pixels, place) for place, (pixels, _) in enumerate(original(source)))

    return raw_records


def uncharged(original: Callable[..., None]) -> Callable[..., None]:
    return lambda account, run, charges: None


def whoever_it_is(original: Callable[..., str]) -> Callable[..., str]:
    """The keys of a run are bound to the run alone."""
    return lambda data, run: run


BUGS = (
    Bug(
        "a round of questions to teachers priced as one",
        "every image that is voted on is a release of its own",
        "teachers", {FIXED + "_leaf": one_query}, LedgerError,
    ),
    Bug(
        "a slot priced as if one teacher in K were asked",
        "every teacher votes on every image: nothing amplifies it",
        "teachers", {FIXED + "_leaf": of_one_in_k},
    ),
    Bug(
        "the noise of a mean of votes on their sum",
        "noise that is divided by the number of teachers hides a share of one of them",
        "teachers", {FIXED + "noise_std": on_a_mean},
    ),
    Bug(
        "votes of teachers over those that voted",
        "a teacher that is silent changes the weight of all others",
        "teachers", {HERE + "noisy_ensemble.answers": over_those_that_answer},
    ),
    Bug(
        "one noise for a question, whoever the teachers are",
        "teachers that were exchanged under one key answer the same images with the same noise, "
        "and the difference has none",
        "teachers", {HERE + "noise.KeyedNoise.add": whatever_the_sum},
    ),
    Bug(
        "a teacher that is known by its name",
        "the votes of another teacher in the slot continue a run, and renamed teachers get a fresh "
        "account",
        "teachers", {SOURCE + "raw_records": by_name},
    ),
    Bug(
        "a teacher that is known by its place",
        "the same teachers in another order get a fresh account",
        "teachers", {SOURCE + "raw_records": with_its_place},
    ),
    Bug(
        "a run that goes on with whatever teachers there are",
        "the same images get the votes of two lists of teachers under one charge",
        "teachers", {"dpgen.data.charged.ChargedData._owner": whoever_it_is},
    ),
    Bug(
        "teachers that are asked and not charged",
        "whoever is not charged can be asked without end",
        "teachers", {"dpgen.privacy.ledger.shared_ledger.SharedLedger.charge": uncharged},
        LedgerError,
    ),
)  # fmt: skip
