"""A format that is read: a genuine content, a mutant of it, and what its reader may answer."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hostile.mutations import mutated, mutated_json


@dataclass(frozen=True)
class Format:
    """How one kind of file is mutated and judged.

    Args:
        name: as printed.
        genuine: a content that is accepted.
        mutant: draws a changed content.
        judge: writes a content into an empty folder and reads it: it returns when the content is
            accepted and what came of it is legal, raises ValueError when it is refused; anything
            else is a fault.
        native: whether code that is not Python may end the process.
    """

    name: str
    genuine: bytes
    mutant: Callable[[random.Random], bytes]
    judge: Callable[[bytes, Path], None]
    native: bool = False


def outcome(form: Format, content: bytes, folder: Path) -> str:
    """"accepted" or "refused"; every other exception of the reader passes through."""
    try:
        form.judge(content, folder)
    except ValueError:
        return "refused"
    return "accepted"


def packed(
    name: str,
    inner: bytes,
    envelope: Callable[[bytes], bytes],
    judge: Callable[[bytes, Path], None],
    native: bool = False,
) -> list[Format]:
    """A format twice: mutated as it lies on disk, and within, with checksums made to fit."""
    whole = envelope(inner)
    return [
        Format(name, whole, lambda choices: mutated(whole, choices), judge, native),
        Format(
            f"{name}, within",
            whole,
            lambda choices: envelope(mutated(inner, choices)),
            judge,
            native,
        ),
    ]


def plain(name: str, whole: bytes, judge: Callable[[bytes, Path], None]) -> Format:
    """A format without checksums."""
    return Format(name, whole, lambda choices: mutated(whole, choices), judge)


def tabled(
    name: str,
    value: Any,  # noqa: ANN401
    envelope: Callable[[Any], bytes],
    judge: Callable[[bytes, Path], None],
) -> Format:
    """A format whose JSON value is mutated as a value."""

    def mutant(choices: random.Random) -> bytes:
        return envelope(mutated_json(value, choices))

    return Format(name, envelope(value), mutant, judge)


def as_json(value: Any) -> bytes:  # noqa: ANN401
    return json.dumps(value).encode()
