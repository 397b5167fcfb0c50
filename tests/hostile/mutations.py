"""Mutations of what a file holds: of its bytes, and of the values in it.

Shared by the tests, where hypothesis makes the random choices, and by ``scripts/fuzz.py``.
"""

from __future__ import annotations

import copy
import random
from typing import Any

INTERESTING = (0, 1, 2, 7, 8, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1,
               2**40, 2**63 - 1, 2**63, 2**64 - 1)  # fmt: skip
WORDS = (b"NaN", b"1e999", b"-1", b"null", b"true", b"{}", b"[]", b'""', b"\xff", b"\0", b"\n",
         b"[" * 300, b"9" * 40, b"9" * 5000, b"..", b"/", b"'", b'"', b"=", b".a" * 40)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**53, 2**63 - 1, 10**30, 0.5, -0.0, 1e-300, 1e300, "", "a",
    "\ud800", "../x", "x" * 5000, [], {}, [[]], [0], [1, 8, 8], {"a": 1}, [None], ["a", "a"],
)  # fmt: skip


def mutated(content: bytes, choices: random.Random) -> bytes:
    """The content with one to four changes: bits, numbers, words, cuts, copies, swaps."""
    data = bytearray(content)
    for _ in range(choices.choice((1, 1, 1, 2, 4))):
        at = choices.randrange(len(data) + 1)
        end = min(len(data), at + choices.choice((1, 2, 4, 8, 64, 512)))
        match choices.randrange(9):
            case 0 if at < len(data):
                data[at] ^= 1 << choices.randrange(8)
            case 1 if at < len(data):
                data[at] = choices.randrange(256)
            case 2:
                number = choices.choice(INTERESTING)
                width = choices.choice((1, 2, 4, 8))
                order = choices.choice(("little", "big"))
                data[at : at + width] = (number % 256**width).to_bytes(width, order)
            case 3:
                del data[at:]
            case 4:
                del data[at:end]
            case 5:
                data[at:at] = data[at:end]
            case 6:
                data[at:at] = choices.choice(WORDS)
            case 7:
                data[at:end] = choices.choice(WORDS)
            case _:
                other = choices.randrange(len(data) + 1)
                data[at:end] = data[other : other + end - at]
    return bytes(data)


def mutated_json(value: Any, choices: random.Random) -> Any:  # noqa: ANN401
    """A JSON value with one to three of its parts replaced, left out, copied or renamed."""
    holder = [copy.deepcopy(value)]
    for _ in range(choices.choice((1, 1, 2, 3))):
        parts = [(holder, 0), *_parts(holder[0])]
        at, key = parts[choices.randrange(len(parts))]
        action = choices.randrange(6)
        if action == 0 and at is not holder:
            del at[key]
        elif action == 1 and isinstance(at, dict):
            at[choices.choice(("", "a", "x" * 300, "\ud800", *at))] = at.pop(key)
        elif action == 2:
            other, name = parts[choices.randrange(len(parts))]
            at[key] = copy.deepcopy(other[name])
        else:
            at[key] = copy.deepcopy(choices.choice(VALUES))
    return holder[0]


def _parts(value: Any) -> list[tuple[Any, Any]]:  # noqa: ANN401
    """Every place of a value, as what holds it and under which key."""
    found: list[tuple[Any, Any]] = []
    items = list(value.items() if isinstance(value, dict) else enumerate(value)) if isinstance(
        value, dict | list
    ) else []
    for key, item in items:
        found.append((value, key))
        found += _parts(item)
    return found
