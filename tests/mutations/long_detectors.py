"""Detectors that look at many releases, many coins or many records at once, made small."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from torch import Tensor

from dpgen.auditing import branches as shares
from dpgen.auditing import coins, long_run, overheard
from dpgen.auditing.chances import Chances
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum
from dpgen.privacy.mechanisms.draws import Draws
from tests.mutations.mechanism_detectors import SGD, Told, past


@contextmanager
def smaller() -> Iterator[None]:
    """Audits with fewer releases, and keys that are the same every time.

    Powers: noise that comes back within 96**2 steps; coins of nine steps of sixty thousand, of
    which two that are the same are 80 standard deviations off; tails cut where 21 of 0.9 million
    words are expected, at 4.2 standard deviations.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_run, "STRIDE", 96)
        patch.setattr(coins, "STRIDE", 96)
        patch.setattr(long_run, "LARGE", 2**18)
        patch.setattr(coins, "N_STEPS", 9)
        patch.setattr(coins, "N_LONG_STEPS", 600)
        patch.setattr(coins, "N_LAGS", 4)
        source = random.Random(0)
        for module in (overheard, coins):
            patch.setattr(module, "new_key", lambda: source.randbytes(32))
        yield


def long_noise(place: Path) -> str:
    """`dpgen.auditing.long_run`: the noise of a long run, of large tensors and of several runs."""
    with smaller():
        return _said(long_run.long_run(SGD)) or _said(long_run.long_run(NoisySum(Told(), 1.7)))


def long_coins(place: Path) -> str:
    """`dpgen.auditing.coins`: the coins of sixty thousand records, over steps, stages and runs."""
    with smaller():
        return _said(coins.coins(SGD))


def _said(found: Chances) -> str:
    return f"not by chance: {found.accused[0]}" if found.accused else ""


@dataclass(frozen=True)
class Drawing:
    """Draws as training has them, of a loss that nobody asks for."""

    def draw(self, draws: Draws) -> dict[str, Tensor]:
        return {"sigma": (1.3 * draws.normal(3) - 0.4).exp(), "drop": draws.uniform() < 0.1}


def branches(place: Path) -> str:
    """`dpgen.auditing.branches`: the share of every record, class, place and draw, step by step."""
    for mechanism in (NoisySGD(0.2, 24, 1.3, 1000, clip_norm=0.7), NoisySum(Told(), 1.7)):
        found = shares.branches(mechanism, (1, 4, 4), 5, Drawing())
        if not found.passed:
            return f"a record is {past(found.largest[found.worst])}"
    return ""


LONG: dict[str, Callable[[Path], str]] = {
    "long run": long_noise,
    "long coins": long_coins,
    "branches": branches,
}
