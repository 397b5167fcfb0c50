"""Keys that can be guessed."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dpgen.auditing import keys
from dpgen.privacy.mechanisms.noise import KEY_BYTES, KeyedNoise, new_key

WORDS = ["a note", "0123456789abcdef0123456789abcdef", "41"]
NAMES = ["run-7", "teacher", "31337"]


def test_the_keys_of_production_are_new_whole_and_not_guessed() -> None:
    assert keys.n_equal_keys() == 0
    assert keys.idle_bits() == 0
    assert keys.guessed(KeyedNoise(new_key(), "plan"), "plan", keys.guesses(WORDS, NAMES)) is None


def test_keys_of_31_random_bits_meet_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 2**18 of them 16 pairs are expected; none come with probability 1e-7."""
    source = random.Random(0)
    monkeypatch.setattr(
        keys, "new_key", lambda: hashlib.sha256(source.randbytes(4)[:4]).digest()[:31] + b"0"
    )
    monkeypatch.setattr(keys, "N_KEYS", 2**18)
    assert 0 < keys.n_equal_keys() < 40


def test_bits_that_only_coins_or_only_draws_ignore_are_counted() -> None:
    class Deaf(KeyedNoise):
        def coins(self, n: int, rate: float, *, release: int) -> np.ndarray:
            return KeyedNoise(self._key[:30] + b"..", "").coins(n, rate, release=release)

    assert keys.idle_bits(lambda key: Deaf(key, "")) == 16


@pytest.mark.parametrize(
    "key",
    [
        lambda: hashlib.sha256(b"a note").digest(),
        lambda: hashlib.sha256(bytes.fromhex(WORDS[1])).digest(),
        lambda: hashlib.md5(b"teacher").digest() * 2,
        lambda: hashlib.sha512(b"run-7/teacher").digest()[:KEY_BYTES],
        lambda: hashlib.blake2s(b"teacher|31337").digest(),
        lambda: hashlib.sha256(hashlib.sha256(b"31337").digest()).digest(),
        lambda: hashlib.sha256((41).to_bytes(8, "little")).digest(),
        lambda: hashlib.sha256(str(int(time.time())).encode()).digest(),
        lambda: b"run-7".ljust(KEY_BYTES, b"\0"),
        lambda: WORDS[1].encode(),
        lambda: random.Random(31337).randbytes(KEY_BYTES),
        lambda: np.random.default_rng(41).bytes(KEY_BYTES),
        lambda: np.random.RandomState(3).bytes(KEY_BYTES),
        lambda: bytes(KEY_BYTES),
    ],
    ids=["SHA-256 of a word", "of its bytes", "MD5 twice over", "SHA-512 of two names", "BLAKE2",
         "hash of a hash", "of a number", "of the time", "a name itself", "a word itself",
         "Mersenne twister", "numpy", "numpy's old", "nothing"],
)  # fmt: skip
def test_a_key_that_is_made_of_something_published_is_guessed(key: Callable[[], bytes]) -> None:
    source = KeyedNoise(key(), "plan")
    assert keys.guessed(source, "plan", keys.guesses(WORDS, NAMES)) is not None


def test_every_name_and_value_and_digest_of_a_run_folder_is_tried(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"seed": 7, "inner": [{"id": "abc"}, None]}))
    (tmp_path / "ledger.jsonl").write_text('{"hash": "one"}\n{"hash": "two"}\n')
    (tmp_path / "model.bin").write_bytes(b"weights")
    words = set(keys.published(tmp_path))
    assert {"seed", "7", "inner", "id", "abc", "one", "two", "run.json", "model"} <= words
    assert hashlib.sha256(b"weights").hexdigest() in words
