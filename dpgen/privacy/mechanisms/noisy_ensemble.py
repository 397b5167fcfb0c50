"""Runs an ensemble: the teachers' answers to a query, their sum, noise.

Every query is a release of its own. Its noise belongs to the question: mechanism, ``fit`` with all
its fields, seed, and the batch of queries with the query's place in it, because a teacher may see
the others. Teachers of shards are never stored; they are trained when the first query comes that
has no saved answer. Given teachers are no part of the question: neighbours differ in them, and what
was noised under one question for both would tell them apart. Theorems A2-V, A2-T and F3.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from dpgen.privacy.mechanisms.contributions import Records, Witness
from dpgen.privacy.mechanisms.ensemble import (
    AnyEnsemble,
    Ball,
    FixedEnsemble,
    NoisyEnsemble,
    Votes,
)
from dpgen.privacy.mechanisms.noise import NoiseSource
from dpgen.privacy.mechanisms.question import Given, Question, described
from dpgen.privacy.mechanisms.teachers import Fit, Teacher, answers, require_answers, trained

ANSWER = "answer"


class Kept(Protocol):
    """The saved answers of a stage, and the place where they are saved."""

    def load(self) -> Tensor:
        """Returns the saved answers, (n, ...) float64, those of queries 0 to n - 1."""

    def save(self, answers: Tensor) -> None:
        """Saves the answers of queries 0 to ``len(answers) - 1``, before anyone uses them."""


class Slots(Protocol):
    """Private teachers that others have trained, in slots of fixed number and order. Only
    mechanisms read them, and only while they run.
    """

    def teachers(self) -> Sequence[Teacher | None]:
        """Returns the teacher of every slot; None for one that is missing."""


def of_shards(
    mechanism: NoisyEnsemble, records: Records, noise: NoiseSource, fit: Fit, seed: int,
    witness: Witness, kept: Kept | None, rehearsed: Teacher | None,
) -> Ensemble:  # fmt: skip
    """Returns the ensemble of teachers that are trained on disjoint shards of the records."""
    own = copy.deepcopy(fit)  # what the questions describe, whatever becomes of `fit`
    question = Question.of(mechanism=mechanism, fit=own, seed=seed, device="cpu")

    def teach() -> Sequence[Teacher | None]:
        return trained(mechanism, records, noise, own, seed)

    return Ensemble(mechanism, teach, question, noise, seed, witness, kept, rehearsed)


def of_slots(
    mechanism: FixedEnsemble, slots: Slots, noise: NoiseSource, seed: int,
    witness: Witness, kept: Kept | None, rehearsed: Teacher | None,
) -> Ensemble:  # fmt: skip
    """Returns the ensemble of given teachers."""
    question = Question.of(mechanism=mechanism, seed=seed, device="cpu")

    def given() -> Sequence[Teacher | None]:
        found = slots.teachers()
        if len(found) != mechanism.n_teachers:
            raise RuntimeError(
                f"{mechanism.n_teachers} teachers were charged, and there are {len(found)}"
            )
        return found

    return Ensemble(mechanism, given, question, noise, seed, witness, kept, rehearsed)


class Ensemble:
    """The teachers of one stage. They never come out; `ask` answers with noised sums."""

    def __init__(
        self,
        mechanism: AnyEnsemble,
        teach: Callable[[], Sequence[Teacher | None]],
        question: Question,
        noise: NoiseSource,
        seed: int,
        witness: Witness,
        kept: Kept | None,
        rehearsed: Teacher | None,
    ) -> None:
        self._mechanism, self._teach, self._question = mechanism, teach, question
        self._noise, self._seed, self._witness = noise, seed, witness
        self._kept, self._rehearsed = kept, rehearsed
        shape = mechanism.answer.shape
        self._answers = kept.load() if kept else torch.zeros(0, *shape, dtype=torch.float64)
        self._n_asked = 0

    @cached_property
    def _teachers(self) -> Sequence[Teacher | None]:
        """Makes the teachers when the first query comes that has no saved answer."""
        return self._teach()

    @property
    def n_left(self) -> int:
        """Returns the number of queries that may still be asked."""
        return self._mechanism.n_queries - self._n_asked

    def ask(
        self, queries: Tensor, *, centre: Tensor | None = None, candidates: Tensor | None = None
    ) -> Tensor:
        """Returns the noised sum of the teachers' answers to each query, (B, ...) float64: counts
        of votes, or the sum of the deviations from the centre. Divide it by the number of shards, a
        constant, never by the number of shards that answered.

        A batch whose answers were saved is not asked again: they are returned, if it is the same
        batch.

        Args:
            queries: (B, C, H, W), made of released and public values alone.
            centre: (B, ...), what deviations are measured from, for `Ball`; None for zero.
            candidates: (B, n_classes) bool, the classes that may be voted for, for `Votes`; None
                for all.

        Raises:
            RuntimeError: more queries than were charged, or saved answers to a part of them.
            LedgerError: the queries are not those that were asked before.
            ValueError: centre or candidates do not fit the answers.
            Exception: what a teacher of made-up records raises for these queries.
        """
        m, first, n = self._mechanism, self._n_asked, len(queries)
        if n > self.n_left:
            raise RuntimeError(
                f"an ensemble answers the {m.n_queries} queries that were charged: {first} were "
                f"asked, and {n} more would be {n - self.n_left} too many"
            )
        given = _checked(m, queries, centre, candidates)
        if self._rehearsed is not None:
            require_answers(m, self._rehearsed, given["queries"], self._seed)
        questions = self._asking(given)
        for row, question in enumerate(questions):
            self._witness.asked(question, first + row)
        held = self._answers[first : first + n]
        if 0 < len(held) < n:
            raise RuntimeError(
                f"the first {len(held)} of these {n} queries were answered before, and without the "
                "others: ask them in the same batches again"
            )
        for row, answer in enumerate(held):
            self._witness.answered(questions[row], first + row, {ANSWER: answer})
        if not len(held):
            found = self._noised(given, questions, first)
            whole = torch.cat([self._answers, found])
            if self._kept is not None:
                self._kept.save(whole)
            self._answers = whole
        self._n_asked += n
        return self._answers[first : first + n].clone()

    def _asking(self, given: Mapping[str, Tensor]) -> list[Question]:
        """Returns the question of every query of a batch; batches of one stage vary in size."""
        moving = dict(self._question.moving)
        described(Given(given), "batch", moving)
        one = described(Given({name: part[0] for name, part in given.items()}), "asked", {})
        stage, n = {**self._question.stage, "asked": one}, len(given["queries"])
        return [Question(stage, {**moving, "row": str(row)}) for row in range(n)]

    def _noised(
        self, given: Mapping[str, Tensor], questions: Sequence[Question], first: int
    ) -> Tensor:
        """Returns the noised sums of queries that have no answer yet."""
        m = self._mechanism
        totals = torch.zeros(len(questions), *m.answer.shape, dtype=torch.float64)
        for answer in answers(m, self._teachers, given, self._seed):
            totals += answer
        found = []
        for row, question in enumerate(questions):
            release = first + row
            self._witness.answering(question, release)
            noise = self._noise.for_question(question.digest)
            noised = noise.add(totals[row], m.noise_std, release=release, name=ANSWER)
            self._witness.answered(question, release, {ANSWER: noised})
            found.append(noised)
        return torch.stack(found)


def _checked(
    mechanism: AnyEnsemble, queries: Tensor, centre: Tensor | None, candidates: Tensor | None
) -> dict[str, Tensor]:
    """Returns what a question is made of, by name: queries and, if they are given, the centre or
    the candidates. Raises ValueError for what does not fit the answers.
    """
    answer, n = mechanism.answer, len(queries)
    given = {"queries": queries}
    if centre is not None:
        if not isinstance(answer, Ball) or tuple(centre.shape) != (n, *answer.shape):
            raise ValueError(
                f"centre must be {n} points of a Ball, got shape {tuple(centre.shape)} for {answer}"
            )
        given["centre"] = centre
    if candidates is not None:
        if not isinstance(answer, Votes) or tuple(candidates.shape) != (n, *answer.shape):
            raise ValueError(
                f"candidates must be {n} rows of a mark for every class of Votes, got shape "
                f"{tuple(candidates.shape)} for {answer}"
            )
        if candidates.dtype != torch.bool or not candidates.any(1).all():
            raise ValueError("candidates must be bool, with at least one class for every query")
        given["candidates"] = candidates
    for name, part in given.items():
        if not part.isfinite().all():
            raise ValueError(f"{name} must be finite numbers, got some that are not")
    return {name: part.detach().cpu().clone() for name, part in given.items()}
