"""Tests whether a private key can be guessed, from published values or because there are few keys.

Anyone with the key of a stage can subtract its noise. A key must be 32 bytes that the operating
system drew for this stage alone. The tests are

    new keys    `N_KEYS` of them, all different: keys of b random bits collide if b is less than
                about 33
    all bits    every bit of a key changes the noise, the coins and the draws that it gives
    guesses     keys made from everything that a run publishes, from its folder, the time and small
                numbers, by `RECIPES` and by the seeds of known generators: none of them gives the
                coins of a stage that ran

Not detected: keys of forty bits or more that are made in other ways than the recipes.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dpgen.privacy.mechanisms.noise import KEY_BYTES, KeyedNoise, NoiseSource, new_key

N_KEYS = 2**18
N_COINS = 256  # coins that a guess has to reproduce, all of them
JOINTS = ("", " ", "/", ":", "-", "|", ",", "\n", "\0")
SMALL = 256  # small numbers that are tried, as seeds and as words
RECENT = 60  # seconds of the recent past that are tried as the time


def _padded(word: bytes) -> bytes:
    return word[:KEY_BYTES].ljust(KEY_BYTES, b"\0")


def _repeated(word: bytes) -> bytes:
    return (word * KEY_BYTES)[:KEY_BYTES] if word else bytes(KEY_BYTES)


def _hashed(name: str) -> Callable[[bytes], bytes]:
    return lambda word: _repeated(hashlib.new(name, word).digest())


RECIPES: Mapping[str, Callable[[bytes], bytes]] = {
    "itself": _padded,
    "itself, repeated": _repeated,
    **{name: _hashed(name) for name in ("sha256", "sha512", "sha3_256", "blake2b", "blake2s",
                                        "sha1", "md5")},
    "sha256 twice": lambda word: hashlib.sha256(hashlib.sha256(word).digest()).digest(),
    "sha256 in hexadecimal": lambda word: hashlib.sha256(word).hexdigest()[:KEY_BYTES].encode(),
    "shake256": lambda word: hashlib.shake_256(word).digest(KEY_BYTES),
}  # fmt: skip
SEEDED: Mapping[str, Callable[[int], bytes]] = {
    "random": lambda seed: random.Random(seed).randbytes(KEY_BYTES),
    "numpy": lambda seed: np.random.default_rng(seed).bytes(KEY_BYTES),
    "numpy's old": lambda seed: np.random.RandomState(seed % 2**32).bytes(KEY_BYTES),
    "torch": lambda seed: torch.randint(
        0, 256, (KEY_BYTES,), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    ).numpy().tobytes(),
}  # fmt: skip


N_BITS = 8 * KEY_BYTES


def n_equal_keys() -> int:
    """Counts new keys that equal an earlier one: none, except with a probability below 2**-219."""
    return N_KEYS - len({new_key() for _ in range(N_KEYS)})


def idle_bits(make: Callable[[bytes], NoiseSource] | None = None) -> int:
    """Counts the bits of a key that change nothing; there should be none.

    Args:
        make: makes a source from its key; None takes `KeyedNoise`.
    """
    make = make or (lambda key: KeyedNoise(key, "audit"))
    key = int.from_bytes(new_key(), "big")
    whole = _traits(make(key.to_bytes(KEY_BYTES, "big")))
    idle = 0
    for bit in range(N_BITS):
        moved = _traits(make((key ^ 1 << bit).to_bytes(KEY_BYTES, "big")))
        idle += any(mine == theirs for mine, theirs in zip(whole, moved, strict=True))
    return idle


def _traits(source: NoiseSource) -> tuple[bytes, bytes, bytes]:
    noise = source.add(torch.zeros(4), 1.0, release=0, name="one")
    draws = source.draws(np.zeros(1, dtype=np.int64), release=0).uniform(4)
    return noise.numpy().tobytes(), _coins(source), draws.numpy().tobytes()


def _coins(source: NoiseSource) -> bytes:
    return source.coins(N_COINS, 0.5, release=0).tobytes()


def words_of(value: Any) -> Iterator[str]:  # noqa: ANN401
    """Yields every name and every value in a JSON value, as they are written."""
    if isinstance(value, Mapping):
        for name, held in value.items():
            yield str(name)
            yield from words_of(held)
    elif isinstance(value, list | tuple):
        for held in value:
            yield from words_of(held)
    else:
        yield value if isinstance(value, str) else json.dumps(value)


def published(folder: Path) -> Iterator[str]:
    """Yields every word in the files of a run folder: names, JSON values, digests of the files."""
    for path in sorted(folder.rglob("*")):
        yield from (path.name, path.stem)
        if path.is_file():
            content = path.read_bytes()
            yield hashlib.sha256(content).hexdigest()
            if path.suffix in (".json", ".jsonl"):
                yield content.decode().strip()
                for line in content.decode().splitlines() if path.suffix == ".jsonl" else [content]:
                    yield from words_of(json.loads(line))


def guesses(words: Iterable[str], secrets: Iterable[str] = ()) -> Iterator[tuple[str, bytes]]:
    """Yields (description, key) for every key that an attacker might try.

    Args:
        words: published words; each is tried.
        secrets: the few words that name a run or a stage; pairs of them are tried, too.
    """
    few = list(dict.fromkeys(secrets))
    pairs = (a + joint + b for a, b in permutations(few, 2) for joint in JOINTS)
    now = int(time.time())
    numbers = dict.fromkeys([*range(SMALL), *range(now - RECENT, now + 1)])
    listed = list(dict.fromkeys([*few, *words]))
    numbers |= {int(word): None for word in listed if word.isdecimal() and int(word) < 2**63}
    texts = dict.fromkeys([*listed, *pairs, *map(str, numbers)])
    for text in texts:
        yield from _made(repr(text), text.encode())
        if len(text) % 2 == 0 and len(text) >= 16 and set(text) <= set("0123456789abcdef"):
            yield from _made(f"the bytes {text!r}", bytes.fromhex(text))
    for number in numbers:
        for word in (number.to_bytes(8, "little"), number.to_bytes(8, "big")):
            yield from _made(f"the number {number}", word)
        for name, seeded in SEEDED.items():
            yield f"{name} seeded with {number}", seeded(number)


def _made(of: str, word: bytes) -> Iterator[tuple[str, bytes]]:
    for name, recipe in RECIPES.items():
        yield f"{name} of {of}", recipe(word)


def guessed(
    source: NoiseSource, plan: str, found: Iterable[tuple[str, bytes]]
) -> str | None:
    """Finds the guess that gives the coins of this source, and returns its description; None if
    none does.

    A wrong guess gives them with probability 2**-256.
    """
    sought = _coins(source)
    for of, key in found:
        if _coins(KeyedNoise(key, plan)) == sought:
            return of
    return None
