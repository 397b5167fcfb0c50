"""Bugs in what a run takes that goes on in a folder in which a file was changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from dpgen.privacy.lineage.answers import Entry, answer_digest
from tests.mutations.bug import Bug


def forgotten(original: Callable[..., None]) -> Callable[..., None]:
    return lambda *_: None


def alike(original: Callable[..., str]) -> Callable[..., str]:
    return lambda source: "0" * 64


def never(original: Callable[..., bool]) -> Callable[..., bool]:
    return lambda *_: False


def last_one(original: Callable[..., bool]) -> Callable[..., bool]:
    """Compares the last saved release alone."""

    def contradict(answers: Any, release: int, entry: object) -> bool:  # noqa: ANN401
        return release == len(answers) and original(answers, release, entry)

    return contradict


def uncompared(original: Callable[..., None]) -> Callable[..., None]:
    """Notes an answer, and compares it with nothing."""

    def answered(witness: Any, question: Any, release: int, answer: Any) -> None:  # noqa: ANN401
        witness._asked[release] = Entry(question.digest, answer_digest(answer))

    return answered


def questions_alone(original: Callable[..., bool]) -> Callable[..., bool]:
    """Compares no answers."""
    return lambda answers, release, entry: original(answers, release, entry._replace(answer=None))


def names_alone(original: Callable[..., str]) -> Callable[..., str]:
    """Looks at the names and shapes of an answer, not at its numbers."""
    return lambda answer: original({name: torch.zeros_like(x) for name, x in answer.items()})


BUGS = (
    Bug(
        "what a saved state holds is not remembered",
        "an edited checkpoint is asked a second question about a step whose answer was seen",
        "restored", {"dpgen.privacy.lineage.answers.Answers.add": forgotten},
    ),
    Bug(
        "what a saved state holds is compared one release late",
        "an edited checkpoint is asked a second question about a step whose answer was seen",
        "restored", {"dpgen.privacy.lineage.answers.Answers.contradict": last_one},
    ),
    Bug(
        "an answer is handed out uncompared",
        "a checkpoint that is put back, resumed with another number of threads, gives a second "
        "answer to one question",
        "restored", {"dpgen.privacy.lineage.witness.StageWitness.answered": uncompared},
    ),
    Bug(
        "the answers of a saved state are not compared",
        "a checkpoint that is put back, resumed with another number of threads, gives a second "
        "answer to one question",
        "restored", {"dpgen.privacy.lineage.answers.Answers.contradict": questions_alone},
    ),
    Bug(
        "answers are told by their names",
        "a checkpoint that is put back, resumed with another number of threads, gives a second "
        "answer to one question",
        "restored", {"dpgen.privacy.lineage.witness.answer_digest": names_alone},
    ),
    Bug(
        "a state is believed when it says how many answers it holds",
        "what it skips is noted by nobody, and answered twice when an earlier state is put back",
        "restored", {"dpgen.privacy.lineage.witness.StageWitness.starting": forgotten},
    ),
    Bug(
        "the ledger commits a stage to no key",
        "under another key the same question has a second answer, whose mean with the first has "
        "less noise",
        "restored", {"dpgen.privacy.mechanisms.noise.KeyedNoise.commitment": alike},
    ),
    Bug(
        "keys whose owner file is gone are tied anew",
        "other records are answered under the charge of the first ones",
        "restored", {"dpgen.privacy.lineage.descent.Descent.was_begun": never},
    ),
)  # fmt: skip
