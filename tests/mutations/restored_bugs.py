"""Bugs in what a run takes that goes on in a folder in which a file was changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.mutations.bug import Bug


def forgotten(original: Callable[..., None]) -> Callable[..., None]:
    return lambda *_: None


def alike(original: Callable[..., str]) -> Callable[..., str]:
    return lambda source: "0" * 64


def never(original: Callable[..., bool]) -> Callable[..., bool]:
    return lambda *_: False


def last_one(original: Callable[..., bool]) -> Callable[..., bool]:
    """Compares the last saved release alone."""

    def contradict(answers: Any, release: int, question: str) -> bool:  # noqa: ANN401
        return release == len(answers) and original(answers, release, question)

    return contradict


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
