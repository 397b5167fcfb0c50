"""Bugs in what is random: noise and coins."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpgen.privacy.mechanisms.noise import KeyedNoise
from tests.mutations.bug import Bug, Change, bare, plain

ADD = "dpgen.privacy.mechanisms.noise.KeyedNoise.add"
COINS = "dpgen.privacy.mechanisms.noise.KeyedNoise.coins"
AddFn = Callable[..., Tensor]
CoinsFn = Callable[..., np.ndarray]


def noised(
    change: Callable[[AddFn, KeyedNoise, Tensor, float, int, str], Tensor],
) -> Change:
    """`KeyedNoise.add` in the place of which stands ``change``, which is given it."""

    def make(original: AddFn) -> AddFn:
        def add(
            source: KeyedNoise, total: Tensor, std: float, *, release: int, name: str
        ) -> Tensor:
            return change(original, source, total, std, release, name)

        return add

    return make


def drawn(change: Callable[[CoinsFn, KeyedNoise, int, float, int], np.ndarray]) -> Change:
    def make(original: CoinsFn) -> CoinsFn:
        def coins(source: KeyedNoise, n: int, rate: float, *, release: int) -> np.ndarray:
            return change(original, source, n, rate, release)

        return coins

    return make


def halved(add: AddFn, source: KeyedNoise, total: Tensor, std: float, t: int, name: str) -> Tensor:
    return add(source, total, std / 2, release=t, name=name)


def reused(add: AddFn, source: KeyedNoise, total: Tensor, std: float, t: int, name: str) -> Tensor:
    return total.double() + std * bare(add, source, total, 0, name)


def one_key(add: AddFn, source: KeyedNoise, total: Tensor, std: float, t: int, name: str) -> Tensor:
    return total.double() + std * bare(add, source, total, t, "")


def coarse(add: AddFn, source: KeyedNoise, total: Tensor, std: float, t: int, name: str) -> Tensor:
    noise = add(source, torch.zeros_like(total), std, release=t, name=name)
    return total.double() + noise.half().double()


def occupied(
    add: AddFn, source: KeyedNoise, total: Tensor, std: float, t: int, name: str
) -> Tensor:
    noisy = add(source, total, std, release=t, name=name)
    return torch.where(total == 0, total.double(), noisy) if total.ndim == 2 else noisy


def proportional(
    add: AddFn, source: KeyedNoise, total: Tensor, std: float, t: int, name: str
) -> Tensor:
    largest = float(total.nan_to_num(0, 0, 0).abs().max()) if total.numel() else 0.0
    return add(source, total, std * (1 + largest), release=t, name=name)


def fewer(original: property) -> property:
    return property(lambda mechanism: original.fget(mechanism) / math.sqrt(2))  # type: ignore[misc]


def unscaled(original: property) -> property:
    return property(lambda mechanism: mechanism.noise_multiplier)


def skipped(original: Callable[..., Any]) -> Callable[..., Any]:
    def gradient(step: Any, *question: Any) -> Any:  # noqa: ANN401
        found = original(step, *question)
        return found if len(step._slots) else {k: torch.zeros_like(g) for k, g in found.items()}

    return gradient


def fixed_size(coins: CoinsFn, source: KeyedNoise, n: int, rate: float, t: int) -> np.ndarray:
    order = np.random.default_rng(t).permutation(n)
    return np.sort(order[: round(rate * n)])


def shuffled(coins: CoinsFn, source: KeyedNoise, n: int, rate: float, t: int) -> np.ndarray:
    n_steps = round(1 / rate)
    order = np.random.default_rng(t // n_steps).permutation(n)
    return np.sort(np.array_split(order, n_steps)[t % n_steps])


def every_epoch(coins: CoinsFn, source: KeyedNoise, n: int, rate: float, t: int) -> np.ndarray:
    return coins(plain(source), n, rate, release=t % round(1 / rate))


def oftener(coins: CoinsFn, source: KeyedNoise, n: int, rate: float, t: int) -> np.ndarray:
    return coins(source, n, min(1.0, 1.5 * rate), release=t)


BUGS = (
    Bug("noise halved", "twice the mu that is claimed", "noise", {ADD: noised(halved)}),
    Bug(
        "noise divided by sqrt(accumulation steps)",
        "the noise belongs to the sum of a step, not to each of its micro-batches",
        "noise", {"dpgen.privacy.mechanisms.declared.NoisySGD.noise_std": fewer},
    ),
    Bug(
        "noise of a release not scaled with its bound",
        "less noise than is priced wherever the bound is above 1",
        "noise", {"dpgen.privacy.mechanisms.declared.NoisySum.noise_std": unscaled},
    ),
    Bug(
        "noise drawn once and reused in every step",
        "the difference of two steps has no noise",
        "noise", {ADD: noised(reused)},
    ),
    Bug(
        "same random key for every layer",
        "the difference of two layers has no noise",
        "noise", {ADD: noised(one_key)},
    ),
    Bug(
        "noise in half precision",
        "few values and wide gaps: what a noisy sum can be depends on the sum",
        "noise", {ADD: noised(coarse)},
    ),
    Bug(
        "noise only where some record contributes",
        "an exact zero says that nobody has this class or feature",
        "noise", {ADD: noised(occupied)},
    ),
    Bug(
        "noise grows with the sum",
        "its width is a function of the records",
        "noise", {ADD: noised(proportional)},
    ),
    Bug(
        "empty batch skipped",
        "a step without noise says that no record was drawn",
        "noise", {"dpgen.privacy.mechanisms.noisy_step.NoisyStep.gradient": skipped},
    ),
    Bug(
        "batches of fixed size, accounted as Poisson",
        "coins are not independent, and no proof of the amplification holds",
        "coins", {COINS: drawn(fixed_size)},
    ),
    Bug(
        "shuffled epochs, accounted as Poisson",
        "every record is used once an epoch for sure: amplification by sampling does not apply",
        "coins", {COINS: drawn(shuffled)},
    ),
    Bug(
        "coins reused every epoch",
        "a record is in the same steps again: its releases add up instead of being diluted",
        "coins", {COINS: drawn(every_epoch)},
    ),
    Bug(
        "coins at a higher rate than accounted",
        "records are used more often than is paid for",
        "coins", {COINS: drawn(oftener)},
    ),
)  # fmt: skip
