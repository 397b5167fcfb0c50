"""Tests the Poisson coins of a long run: whether the coins of one step depend on those of another.

Amplification by sampling requires coins that are independent over records and over steps. Coins
that have the right distribution record by record and step by step may still be a copy of another
step's: shifted by some records, reversed, permuted in a fixed way, or antithetic (drawn from the
upper end where the others are drawn from the lower). The tests are

    moved       `N_STEPS` steps of sixty thousand records, under two keys and two plans: the coins
                that two steps have in common, at every distance of steps and of records
    turned      the same with the order of records reversed
    shuffled    `N_LONG_STEPS` steps of few records: every record with every other one, up to
                `N_LAGS` steps apart
    repeated    whole steps, over `dpgen.auditing.long_run.STRIDE` **2 of them

Not detected: coins that are permuted in another way in every step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from scipy.fft import irfft2, rfft2

from dpgen.auditing.chances import Chances, of_counts, of_overlap
from dpgen.auditing.long_run import STRIDE
from dpgen.auditing.overheard import fresh_source, overhear_coins
from dpgen.privacy.mechanisms.declared import NoisySGD
from dpgen.privacy.mechanisms.noise import KeyedNoise, NoiseSource, new_key

# Odd numbers, so that every cycle of positions has at least three.
N_STEPS, N_SLOTS = 63, 60_025
N_LONG_STEPS, N_FEW, N_LAGS = 1000, 300, 16
HIGH_RATE = 0.3  # a rate at which negatively dependent coins are detected, too


def coins(mechanism: NoisySGD) -> Chances:
    """Tests coins for dependence on each other, at the mechanism's own rate and at a high one.

    Guarantee: a correct mechanism is accused with probability at most 6 `LEVEL`.
    """
    if mechanism.rate == 1:
        return Chances({"coins": 1.0})
    found: dict[str, float] = {}
    for rate in sorted({mechanism.rate, HIGH_RATE}):
        table = _table(mechanism, rate)
        found[f"coins of sixty thousand records, moved, at rate {rate:.2g}"] = _moved(table, rate)
        found[f"coins in the other order, at rate {rate:.2g}"] = _turned(table, rate)
    found["coins of two records, some steps apart"] = _shuffled(mechanism)
    found["coins of whole steps"] = _repeated(mechanism)
    return Chances(found)


def _table(mechanism: NoisySGD, rate: float) -> np.ndarray:
    """Draws the coins of steps of one stage, of another stage with the same key, and of another
    run.
    """
    third, key = range(N_STEPS // 3), new_key()
    sources = KeyedNoise(key, "one"), KeyedNoise(key, "two"), fresh_source()
    return np.concatenate([_drawn(mechanism, rate, one, N_SLOTS, third) for one in sources])


def _drawn(
    mechanism: NoisySGD, rate: float, source: NoiseSource, n_slots: int, releases: Iterable[int]
) -> np.ndarray:
    return overhear_coins(replace(mechanism, rate=rate), source, n_slots, releases)


def _moved(table: np.ndarray, rate: float) -> float:
    image = rfft2(table.astype(np.float64))
    counts = irfft2(np.abs(image) ** 2, table.shape).round().reshape(-1)[1:]
    return of_overlap(counts, table.size, rate)


def _turned(table: np.ndarray, rate: float) -> float:
    """Counts common coins with the order of records reversed. Each product occurs twice, except one
    that is a square.
    """
    image = rfft2(table.astype(np.float64))
    counts = irfft2(image**2, table.shape).round().reshape(-1)
    return of_counts(counts // 2, table.size // 2, rate**2)


def _shuffled(mechanism: NoisySGD) -> float:
    table = _drawn(mechanism, HIGH_RATE, fresh_source(), N_FEW, range(N_LONG_STEPS))
    table = table.astype(np.float32)
    least, n = 1.0, N_LONG_STEPS - N_LAGS
    for lag in range(N_LAGS + 1):
        counts = table[:n].T @ table[lag : lag + n]
        np.fill_diagonal(counts, round(n * HIGH_RATE**2))  # not a record with itself
        least = min(least, of_counts(counts, n, HIGH_RATE**2))
    return min(1.0, (N_LAGS + 1) * least)


def _repeated(mechanism: NoisySGD) -> float:
    """Returns the probability that two steps have the same coins for so many records, if any do."""
    releases = [*range(STRIDE), *(STRIDE * (1 + k) for k in range(STRIDE))]
    table = _drawn(mechanism, HIGH_RATE, fresh_source(), N_FEW, releases)
    same = len(table) - len({row.tobytes() for row in table})
    alike = HIGH_RATE**2 + (1 - HIGH_RATE) ** 2
    return min(1.0, len(table) ** 2 * alike**N_FEW) if same else 1.0
