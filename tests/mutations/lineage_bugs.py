"""Bugs in whose noise it is and in who may go on with a run."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dpgen.privacy.lineage.memory import Marks
from dpgen.storage.canonical import canonical
from dpgen.storage.durable import replace_durably
from tests.mutations.bug import Bug, Change


def unasked(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda noise, question: noise


def blind(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Noise that looks at release and question alone."""

    def add(source: Any, total: Tensor, std: float, **where: Any) -> Tensor:  # noqa: ANN401
        nothing = torch.zeros(total.shape, dtype=torch.float64)
        return total.double() + original(source, nothing, std, **where)

    return add


def of_settings(original: Callable[..., str]) -> Callable[..., str]:
    """What tensors hold is left out of the question."""
    return lambda tensor: ""


def without(kind: str) -> Change:
    """`Descent.note` that forgets one kind of line."""

    def change(original: Callable[..., None]) -> Callable[..., None]:
        def note(descent: Any, what: str, *given: Any, **more: Any) -> None:  # noqa: ANN401
            if what != kind:
                original(descent, what, *given, **more)

        return note

    return change


def kept_back(original: Callable[..., str]) -> Callable[..., str]:
    """`Lineage.propose` that writes nothing yet."""

    def propose(lineage: Any, current: str) -> str:  # noqa: ANN401
        lineage.late = Marks(current, secrets.token_hex(16))
        return str(lineage.late.pending)

    return propose


def ledger_first(original: Callable[..., None]) -> Callable[..., None]:
    def begin(descent: Any) -> None:  # noqa: ANN401
        original(descent)
        lineage = descent.keys.lineage
        text = canonical(lineage.late._asdict()).encode()
        replace_durably(lineage._path, text, mode=0o600)

    return begin


def nothing(original: Callable[..., Any]) -> Callable[..., None]:
    return lambda *_, **__: None


def markless(original: Callable[..., str]) -> Callable[..., str]:
    return lambda lines, run: ""


BUGS = (
    Bug(
        "question left out of the key of its noise",
        "the difference of two answers to two questions has no noise",
        "lineage", {"dpgen.privacy.mechanisms.noise.KeyedNoise.for_question": unasked},
    ),
    Bug(
        "sum left out of the key of its noise",
        "what a question forgets, or a kernel does not repeat, shows without noise",
        "lineage", {"dpgen.privacy.mechanisms.noise.KeyedNoise.add": blind},
    ),
    Bug(
        "released tensors left out of the question",
        "a stage is asked again around other values, for nothing",
        "lineage", {"dpgen.privacy.mechanisms.question._content": of_settings},
    ),
    Bug(
        "question not compared on a resume",
        "a stage is asked two questions under one charge",
        "lineage", {"dpgen.privacy.lineage.witness.StageWitness._compared": nothing},
    ),
    Bug(
        "question not written into the ledger",
        "a stage is asked two questions under one charge",
        "lineage", {"dpgen.privacy.lineage.descent.Descent.note": without("asked")},
    ),
    Bug(
        "a finished stage is not written down",
        "a key that a backup kept answers it again",
        "lineage", {"dpgen.privacy.lineage.descent.Descent.note": without("finished")},
    ),
    Bug(
        "mark written into the ledger before the checkpoint",
        "a kill between the two looks like a copy: an honest run is lost, or copies are let in",
        "lineage",
        {
            "dpgen.privacy.lineage.memory.Lineage.propose": kept_back,
            "dpgen.privacy.lineage.descent.Descent.begin": ledger_first,
        },
    ),
    Bug(
        "a copy of a run folder is accepted",
        "every copy is answered under the one charge",
        "lineage",
        {
            "dpgen.privacy.lineage.descent.last_mark": markless,
            "dpgen.privacy.lineage.descent.Descent._require": nothing,
        },
    ),
    Bug(
        "a running original is not stopped by its copy",
        "both are answered under the one charge",
        "lineage", {"dpgen.privacy.lineage.descent.Descent._require": nothing},
    ),
)  # fmt: skip
