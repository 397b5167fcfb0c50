"""Bugs in coins that are right record by record and step by step, but know of each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dpgen.privacy.mechanisms.noise import KeyedNoise
from tests.mutations.bug import Bug, plain
from tests.mutations.noise_bugs import COINS, CoinsFn, drawn


def own(coins: CoinsFn, source: KeyedNoise, n: int, rate: float, t: int) -> np.ndarray:
    """The coins of a step, whatever is asked."""
    return coins(plain(source), n, rate, release=t)


def moved_by(chosen: np.ndarray, n: int, by: int) -> np.ndarray:
    return np.sort((chosen + by) % max(n, 1))


def moved(coins: CoinsFn, source: KeyedNoise, n: int, rate: float, t: int) -> np.ndarray:
    return moved_by(own(coins, source, n, rate, t - t % 2), n, 17 * (t % 2))


def five_steps_on(coins: CoinsFn, source: KeyedNoise, n: int, rate: float, t: int) -> np.ndarray:
    return moved_by(own(coins, source, n, rate, t % 2), n, t // 2)


def rotated(coins: CoinsFn, source: KeyedNoise, n: int, rate: float, t: int) -> np.ndarray:
    return moved_by(own(coins, source, n, rate, 0), n, 7919 * t * t)


def antithetic(coins: CoinsFn, source: KeyedNoise, n: int, rate: float, t: int) -> np.ndarray:
    """Odd steps take the upper end of the numbers of which even ones take the lower."""
    numbers = plain(source)._uniforms(n, "coins", t // 2, "")
    return np.flatnonzero(numbers < rate if t % 2 == 0 else numbers >= 1 - rate)


def backwards(coins: CoinsFn, source: KeyedNoise, n: int, rate: float, t: int) -> np.ndarray:
    chosen = own(coins, source, n, rate, t - t % 2)
    return np.sort(n - 1 - chosen) if t % 2 else chosen


def reordered(coins: CoinsFn, source: KeyedNoise, n: int, rate: float, t: int) -> np.ndarray:
    chosen = own(coins, source, n, rate, t - t % 2)
    return np.sort(np.random.default_rng(0).permutation(n)[chosen]) if t % 2 else chosen


def pairs(coins: CoinsFn, source: KeyedNoise, n: int, rate: float, t: int) -> np.ndarray:
    """The second half of the records has the coins of the first."""
    half = n // 2
    chosen = own(coins, source, n, rate, t)
    first = chosen[chosen < half]
    return np.concatenate([first, first + half, chosen[chosen >= 2 * half]])


def thousand(coins: CoinsFn, source: KeyedNoise, n: int, rate: float, t: int) -> np.ndarray:
    return own(coins, source, n, rate, t % 1000)


def of_the_run(coins: CoinsFn, source: KeyedNoise, n: int, rate: float, t: int) -> np.ndarray:
    """Coins that know of no stage, moved by a record so that nobody sees it."""
    found = coins(KeyedNoise(source._key, ""), n, rate, release=t)
    return moved_by(found, n, len(source._plan + source._plan[:1]) + ord(source._plan[-1:] or "a"))


def _bug(name: str, why: str, change: Callable[..., Any]) -> Bug:
    return Bug(name, why, "coins", {COINS: drawn(change)})


AGAIN = "who is in one step is known to be in another: amplification counts them as independent"
BUGS = (
    _bug("coins of the step before, moved by 17 records", AGAIN, moved),
    _bug("coins of two steps before, moved by a record", AGAIN, five_steps_on),
    _bug("coins of the first step in all, rotated further every time", AGAIN, rotated),
    _bug(
        "coins of the step before, from the other end",
        "who is in one step is known not to be in the next",
        antithetic,
    ),
    _bug("coins of the step before, records counted backwards", AGAIN, backwards),
    _bug("coins of the step before, in an order that is fixed", AGAIN, reordered),
    _bug(
        "coins of the second half of the records are those of the first",
        "records come in pairs: what is priced is one of them",
        pairs,
    ),
    _bug("coins again after 1000 steps", AGAIN, thousand),
    _bug("coins of another stage, moved by some records", AGAIN, of_the_run),
)
