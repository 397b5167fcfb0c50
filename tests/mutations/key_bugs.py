"""Bugs in where randomness comes from: keys, seeds, what a resumed run draws."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.mechanisms.noise import KEY_BYTES, KeyedNoise
from tests.mutations.bug import Around, Bug, bare
from tests.mutations.noise_bugs import ADD, COINS, AddFn, CoinsFn, drawn, noised


def global_generator(
    add: AddFn, source: KeyedNoise, total: Tensor, std: float, t: int, name: str
) -> Tensor:
    return total.double() + std * torch.randn(total.shape, dtype=torch.float64)


def salted(add: AddFn, source: KeyedNoise, total: Tensor, std: float, t: int, name: str) -> Tensor:
    fresh = KeyedNoise(secrets.token_bytes(KEY_BYTES), "")
    return add(fresh, total, std, release=t, name=name)


def fresh_coins(coins: CoinsFn, source: KeyedNoise, n: int, rate: float, t: int) -> np.ndarray:
    return np.flatnonzero(np.random.default_rng().random(n) < rate)


def from_the_seed(original: Callable[[], bytes]) -> Callable[[], bytes]:
    return lambda: bytes(KEY_BYTES)


def without_plan(original: Callable[..., KeyedNoise]) -> Callable[..., KeyedNoise]:
    """One key a run, and nothing of the stage in its streams."""

    def noise(keys: Any, plan: str) -> KeyedNoise:  # noqa: ANN401
        path = keys._folder / "run.key"
        if not path.exists():
            path.write_bytes(secrets.token_bytes(KEY_BYTES))
        return KeyedNoise(path.read_bytes(), "")

    return noise


def drawn_again(original: Callable[..., KeyedNoise]) -> Callable[..., KeyedNoise]:
    """A resumed stage, or one whose key is gone, gets a new key."""

    def noise(keys: Any, plan: str) -> KeyedNoise:  # noqa: ANN401
        keys.forget(plan)
        keys.create(plan)
        return original(keys, plan)

    return noise


def kept(original: Callable[..., None]) -> Callable[..., None]:
    return lambda keys, plan: None


def from_zero(original: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """Steps after a resume count from zero in the streams of noise."""

    def steps(mechanism: Any, records: Any, noise: Any, *, start: int, **named: Any) -> Any:  # noqa: ANN401
        def add(source: KeyedNoise, total: Tensor, std: float, t: int, name: str) -> Tensor:
            return total + std * bare(KeyedNoise.add, source, total, t - start, name)

        return original(mechanism, records, Around(noise, add), start=start, **named)

    return steps


BUGS = (
    Bug(
        "private noise from the public seed",
        "whoever knows the published seed subtracts the noise",
        "keys", {"dpgen.privacy.lineage.keys.new_key": from_the_seed},
    ),
    Bug(
        "private noise from torch's global generator",
        "it follows a seed that is published, and a repeated step gets other noise",
        "keys", {ADD: noised(global_generator)},
    ),
    Bug(
        "two releases with the same noise, as a sketch in two rounds",
        "their difference has no noise",
        "keys", {"dpgen.privacy.lineage.keys.StageKeys.noise": without_plan},
    ),
    Bug(
        "new noise with old coins after a resume",
        "a repeated step is a second release under one charge",
        "keys", {ADD: noised(salted)},
    ),
    Bug(
        "old noise with new coins after a resume",
        "the difference of the two answers has no noise",
        "keys", {COINS: drawn(fresh_coins)},
    ),
    Bug(
        "new key after a resume",
        "a repeated step is a second release under one charge",
        "keys", {"dpgen.privacy.lineage.keys.StageKeys.noise": drawn_again},
        refusal=LedgerError,  # the stage has committed to its key
    ),
    Bug(
        "the key of a finished stage is kept",
        "a stage that is asked again, for something else, has noise that is known to repeat",
        "keys", {"dpgen.privacy.lineage.keys.StageKeys.forget": kept},
    ),
    Bug(
        "noise of the first steps again after a resume",
        "the difference of two steps has no noise",
        "keys", {"dpgen.privacy.mechanisms.declared.NoisySGD.steps": from_zero},
    ),
)  # fmt: skip
