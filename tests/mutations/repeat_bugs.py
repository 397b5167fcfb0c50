"""Bugs in noise that is right release by release: it comes back, or its tails are missing."""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dpgen.privacy.mechanisms.noise import KEY_BYTES, KeyedNoise
from tests.mutations.bug import Bug, bare, plain
from tests.mutations.noise_bugs import ADD, AddFn, noised

Normals = Callable[[AddFn, KeyedNoise, Tensor, int, str], Tensor]


def normals(change: Normals) -> Callable[[AddFn], AddFn]:
    """`KeyedNoise.add` with these standard normals in the place of its own."""

    def add(
        original: AddFn, source: KeyedNoise, total: Tensor, std: float, t: int, name: str
    ) -> Tensor:
        return total.double() + std * change(original, source, total, t, name)

    return noised(add)


def hashed(t: int, n: int) -> int:
    return int.from_bytes(hashlib.sha256(str(t).encode()).digest()[:8], "big") % n


def pooled(add: AddFn, source: KeyedNoise, like: Tensor, t: int, name: str) -> Tensor:
    return bare(add, source, like, hashed(t, 500), name)


def periodic(add: AddFn, source: KeyedNoise, like: Tensor, t: int, name: str) -> Tensor:
    return bare(add, source, like, t % 1000, name)


def in_a_byte(add: AddFn, source: KeyedNoise, like: Tensor, t: int, name: str) -> Tensor:
    return bare(add, source, like, t & 0xFF, name)


def opposed(add: AddFn, source: KeyedNoise, like: Tensor, t: int, name: str) -> Tensor:
    return (-1) ** t * bare(add, source, like, t // 2, name)


def half_of_it(add: AddFn, source: KeyedNoise, like: Tensor, t: int, name: str) -> Tensor:
    fresh = bare(add, source, like, t, name)
    return (fresh + bare(add, source, like, -1, name)) / math.sqrt(2)


def carried_over(add: AddFn, source: KeyedNoise, like: Tensor, t: int, name: str) -> Tensor:
    """As a filter over steps makes it: a tenth of the last step's noise is left in it."""
    fresh, last = bare(add, source, like, t, name), bare(add, source, like, t - 1, name)
    return (fresh + 0.1 * last) / math.sqrt(1.01)


def one_stream(add: AddFn, source: KeyedNoise, like: Tensor, t: int, name: str) -> Tensor:
    """All tensors of a release from one stream, entered some words on."""
    start = hashed(len(name) + ord(name[0]), 97)
    stream = bare(add, source, torch.zeros(like.numel() + start), t, "")
    return stream[start:].reshape(like.shape)


def tiled(add: AddFn, source: KeyedNoise, like: Tensor, t: int, name: str) -> Tensor:
    """Drawn 2**16 words at a time, from the same generator every time."""
    found = bare(add, source, torch.zeros(min(like.numel(), 2**16)), t, name)
    return found.repeat(-(-like.numel() // len(found)))[: like.numel()].reshape(like.shape)


def turned(add: AddFn, source: KeyedNoise, like: Tensor, t: int, name: str) -> Tensor:
    """Antithetic halves of what is larger than 100,000 words."""
    found = bare(add, source, like, t, name).reshape(-1)
    if len(found) > 100_000:
        half = len(found) // 2
        found[half : 2 * half] = -found[:half]
    return found.reshape(like.shape)


def patched(add: AddFn, source: KeyedNoise, like: Tensor, t: int, name: str) -> Tensor:
    """A thousand words of a large tensor stand in another place of it once more."""
    found = bare(add, source, like, t, name).reshape(-1)
    if len(found) > 100_000:
        found[70_000:71_000] = found[3_333:4_333].flip(0)
    return found.reshape(like.shape)


def clamped(add: AddFn, source: KeyedNoise, like: Tensor, t: int, name: str) -> Tensor:
    return bare(add, source, like, t, name).clamp(-4, 4)


def redrawn(add: AddFn, source: KeyedNoise, like: Tensor, t: int, name: str) -> Tensor:
    """What lies beyond four standard deviations is drawn again."""
    found, again = bare(add, source, like, t, name), bare(add, source, like, t, f"{name} again")
    return torch.where(found.abs() > 4, again.clamp(-4, 4), found)


def of_twelve(add: AddFn, source: KeyedNoise, like: Tensor, t: int, name: str) -> Tensor:
    """Twelve uniform numbers, added up."""
    twelve = bare(add, source, torch.zeros(12, like.numel()), t, name)
    return (torch.special.ndtr(twelve).sum(0) - 6).reshape(like.shape)


def across_stages(original: Callable[..., KeyedNoise]) -> Callable[..., KeyedNoise]:
    """One stream of a run for all tensors of all its stages, entered at another word by each."""

    class Entered(KeyedNoise):
        def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
            start = hashed(len(name) + release, 1000)
            zeros = torch.zeros(total.numel() + start, dtype=torch.float64)
            stream = KeyedNoise.add(plain(self), zeros, 1.0, release=0, name="")
            return total.double() + std * stream[start:].reshape(total.shape)

    def noise(keys: Any, plan: str) -> KeyedNoise:  # noqa: ANN401
        original(keys, plan)
        path = keys._folder / "run.key"
        if not path.exists():
            path.write_bytes(secrets.token_bytes(KEY_BYTES))
        return Entered(path.read_bytes(), "")

    return noise


def _bug(name: str, why: str, change: Normals) -> Bug:
    return Bug(name, why, "noise", {ADD: normals(change)})


DIFFERENCE = "the difference of two of its answers has no noise"
BUGS = (
    _bug("noise from a pool of 500", DIFFERENCE, pooled),
    _bug("noise again after 1000 steps", DIFFERENCE, periodic),
    _bug("number of a step kept in one byte of the noise's address", DIFFERENCE, in_a_byte),
    _bug(
        "noise of the step before with the other sign", "the sum of two steps has no noise", opposed
    ),
    _bug(
        "half of the noise is the same in every step",
        "the difference of two steps has half the variance that is priced",
        half_of_it,
    ),
    _bug(
        "a tenth of the noise of the step before",
        "noise of steps is not independent, as the price assumes",
        carried_over,
    ),
    _bug(
        "tensors share a stream of noise, some words apart",
        "the difference of two layers, moved, has no noise",
        one_stream,
    ),
    _bug(
        "noise in tiles of 65,536 words",
        "the difference of two parts of a large layer has no noise",
        tiled,
    ),
    _bug(
        "second half of a large tensor's noise is the first with the other sign",
        "the sum of two parts of a large layer has no noise",
        turned,
    ),
    _bug(
        "a thousand words of noise stand in two places, backwards",
        "the difference of these parts has no noise",
        patched,
    ),
    _bug(
        "noise clamped to four standard deviations",
        "what only one of two neighbours can reach tells them apart for sure",
        clamped,
    ),
    _bug(
        "noise beyond four standard deviations drawn again",
        "what only one of two neighbours can reach tells them apart for sure",
        redrawn,
    ),
    _bug(
        "noise from twelve uniform numbers",
        "its tails are too light: what only one of two neighbours can reach tells them apart",
        of_twelve,
    ),
    Bug(
        "stages share a stream of noise, some words apart",
        "the difference of two stages, moved, has no noise",
        "keys", {"dpgen.privacy.lineage.keys.StageKeys.noise": across_stages},
    ),
)  # fmt: skip
