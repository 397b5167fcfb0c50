"""Bugs in what a private key is made of."""

from __future__ import annotations

import hashlib
import random
import secrets
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from dpgen.privacy.mechanisms.noise import KEY_BYTES, KeyedNoise
from dpgen.storage.files import read_json
from tests.mutations.bug import Bug

CREATE = "dpgen.privacy.lineage.keys.StageKeys.create"


def made(key: Callable[[], bytes]) -> dict[str, Callable[[Any], Any]]:
    """`new_key` wherever it is called, with this in its place."""
    return dict.fromkeys(
        ("dpgen.privacy.lineage.keys.new_key", "dpgen.auditing.keys.new_key"), lambda original: key
    )


def created(key: Callable[[Any, str], bytes]) -> Callable[[Any], Any]:
    """`StageKeys.create` that makes the key of a plan of what it knows."""

    def change(original: Any) -> Any:  # noqa: ANN401
        def create(keys: Any, plan: str) -> None:  # noqa: ANN401
            if not keys.path(plan).exists():
                keys.path(plan).write_bytes(key(keys, plan))

        return create

    return change


def sha(*words: object) -> bytes:
    return hashlib.sha256("".join(map(str, words)).encode()).digest()


def of_the_plan(keys: Any, plan: str) -> bytes:  # noqa: ANN401
    return sha(plan)


def of_the_folder(keys: Any, plan: str) -> bytes:  # noqa: ANN401
    return hashlib.sha512(str(keys._folder.parent.parent).encode()).digest()[:KEY_BYTES]


def of_the_run(keys: Any, plan: str) -> bytes:  # noqa: ANN401
    state = keys._folder.parent / "run.json"
    name = read_json(state)["id"] if state.exists() else keys._folder.parent.name
    return hashlib.blake2b(f"{name}:{plan}".encode(), digest_size=64).digest()[:KEY_BYTES]


def of_the_seed(keys: Any, plan: str) -> bytes:  # noqa: ANN401
    state = keys._folder.parent / "run.json"
    seed = read_json(state)["configuration"]["seed"] if state.exists() else 0
    return bytes(np.random.default_rng(seed).bytes(KEY_BYTES))


def of_four_bytes(original: Callable[..., None]) -> Callable[..., None]:
    """A source that reads the first word of its key and nothing else of it."""

    def init(source: KeyedNoise, key: bytes, *given: Any, **named: Any) -> None:  # noqa: ANN401
        original(source, hashlib.sha256(key[:4]).digest(), *given, **named)

    return init


def one_of_a_run(keys: Any, plan: str) -> bytes:  # noqa: ANN401
    """Every stage has the first one's key, reversed."""
    for path in sorted(keys._folder.glob("*.key")):
        return path.read_bytes()
    return secrets.token_bytes(KEY_BYTES)


KNOWN = "whoever reads the certificate makes the key and subtracts the noise"
FEW = "whoever tries all keys finds the one whose noise leaves a sum that is possible"
BUGS = (
    Bug("key is a hash of the plan", KNOWN, "keys", {CREATE: created(of_the_plan)}),
    Bug("key is a hash of the folder's name", KNOWN, "keys", {CREATE: created(of_the_folder)}),
    Bug("key is a hash of run and plan", KNOWN, "keys", {CREATE: created(of_the_run)}),
    Bug("key from the published seed", KNOWN, "keys", {CREATE: created(of_the_seed)}),
    Bug(
        "key is a hash of the time", "the time of a run stands in its ledger, almost", "keys",
        made(lambda: sha(time.time_ns())),
    ),
    Bug(
        "key from a generator that 24 random bits seed", FEW, "keys",
        made(lambda: random.Random(secrets.randbits(24)).randbytes(KEY_BYTES)),
    ),
    Bug(
        "key is a hash of five random bytes", FEW, "keys",
        made(lambda: hashlib.sha256(secrets.token_bytes(5)).digest()),
    ),
    Bug(
        "key is two random bytes, repeated", FEW, "keys",
        made(lambda: secrets.token_bytes(2) * (KEY_BYTES // 2)),
    ),
    Bug(
        "noise from the first four bytes of the key", FEW, "keys",
        {"dpgen.privacy.mechanisms.noise.KeyedNoise.__init__": of_four_bytes},
    ),
)  # fmt: skip
