"""Coins that know of each other: of kinds that the mutation table does not hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dpgen.auditing.coins import coins
from dpgen.privacy.mechanisms.declared import NoisySGD
from dpgen.privacy.mechanisms.noise import KeyedNoise

pytestmark = pytest.mark.usefixtures("one_thread", "short_audits")

draw = KeyedNoise.coins


def mechanism(rate: float) -> NoisySGD:
    return NoisySGD(rate, 4, 1.3, 1000)


@pytest.mark.parametrize("rate", [0.004, 0.2, 0.6, 1.0])
def test_the_coins_of_production_pass(rate: float) -> None:
    found = coins(mechanism(rate))
    assert found.passed, found.values


def own(source: KeyedNoise, n: int, rate: float, t: int) -> np.ndarray:
    return draw(KeyedNoise(source._key, source._plan), n, rate, release=t)


Planted = Callable[[KeyedNoise, int, float, int], np.ndarray]


def late(source: KeyedNoise, n: int, rate: float, t: int) -> np.ndarray:
    """One step of many is another one, moved by 20,000 records."""
    chosen = own(source, n, rate, 1 if t == 2 else t)
    return np.sort((chosen + 20_000) % n) if t == 2 else chosen


def between_runs(source: KeyedNoise, n: int, rate: float, t: int) -> np.ndarray:
    """Coins of which no key knows, moved by what the key says."""
    chosen = draw(KeyedNoise(bytes(32), ""), n, rate, release=t)
    return np.sort((chosen + source._key[0]) % n)


def neighbours(source: KeyedNoise, n: int, rate: float, t: int) -> np.ndarray:
    """A record has the coin of the one before, every tenth time."""
    chosen = np.zeros(n, dtype=bool)
    chosen[own(source, n, rate, t)] = True
    copied = np.arange(n) % 10 == 9
    chosen[copied] = np.roll(chosen, 1)[copied]
    return np.flatnonzero(chosen)


@pytest.mark.parametrize("rate", [0.004, 0.2], ids=["rare", "often"])
@pytest.mark.parametrize("planted", [late, between_runs, neighbours])
def test_coins_that_know_of_each_other_are_not_chance(
    planted: Planted, rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn(source: KeyedNoise, n: int, rate: float, *, release: int) -> np.ndarray:
        return planted(source, n, rate, release)

    monkeypatch.setattr(KeyedNoise, "coins", drawn)
    assert any("moved" in name for name in coins(mechanism(rate)).accused)


def test_coins_that_repeat_after_thousands_of_steps_are_not_chance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def drawn(source: KeyedNoise, n: int, rate: float, *, release: int) -> np.ndarray:
        return own(source, n, rate, release % 3001)

    monkeypatch.setattr(KeyedNoise, "coins", drawn)
    assert coins(mechanism(0.2)).accused == ("coins of whole steps",)


def test_what_a_mechanism_asks_of_its_records_is_looked_at_not_what_its_source_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half of the records, counted twice, by a step that does not listen to its coins."""
    add = NoisySGD.steps

    class Half(KeyedNoise):
        def coins(self, n: int, rate: float, *, release: int) -> np.ndarray:
            chosen = draw(self, n // 2, rate, release=release)
            return np.sort(np.concatenate([chosen, chosen + n // 2]))

    def steps(mechanism: NoisySGD, records: Any, noise: Any, **named: Any) -> Any:  # noqa: ANN401
        return add(mechanism, records, Half(noise._key, noise._plan), **named)

    monkeypatch.setattr(NoisySGD, "steps", steps)
    assert not coins(mechanism(0.2)).passed
