"""Detectors that look at the mechanisms alone: the objects that `dpgen audit` runs, made small, and
a few checks of what these leave out.

A detector returns what it saw that is wrong, in a few words, or nothing. Private keys are fixed
here, so that a table of what was seen is the same on every machine.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dpgen.auditing import oracle as oracles
from dpgen.auditing import overheard, randomness
from dpgen.auditing.games import canaries, white_box
from dpgen.privacy.mechanisms import noisy_step, shares
from dpgen.privacy.mechanisms.contributions import Block
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum
from dpgen.privacy.mechanisms.noise import KeyedNoise

CPU = torch.device("cpu")
SGD = NoisySGD(0.2, 2, 1.3, 1000, clip_norm=0.7)
DELTA = 1e-5
LIBRARY = ("ordinary", "huge", "infinite", "not a number", "in one layer", "opposed to the others")


def rough(number: float) -> str:
    """Two digits: what two machines agree on."""
    if not math.isfinite(number) or not 1e-3 < abs(number) < 1e6:
        return f"{number:.1g}"
    digits = 1 - math.floor(math.log10(abs(number)))
    return f"{round(number, digits):.{max(0, digits)}f}"


def past(share: float) -> str:
    """By how much a record's share is past what the margin leaves of the bound."""
    return f"{rough(share)} bounds" if share > 1.001 else "past the margin of the clip"


@contextmanager
def smaller() -> Iterator[None]:
    """The audits of `dpgen.auditing` with fewer draws, and keys that are the same every time."""
    library = oracles._library
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(oracles, "N_OTHERS", 3)
        patch.setattr(
            oracles, "_library",
            lambda *given: {k: g for k, g in library(*given).items() if k in LIBRARY},
        )  # fmt: skip
        shapes = {"first": (20_000, 1), "second": (200, 100)}
        patch.setattr(randomness, "SHAPES", shapes)
        patch.setattr(randomness, "N_NOISE_RELEASES", 3)
        patch.setattr(randomness, "N_SLOTS", 60)
        patch.setattr(randomness, "N_COIN_STEPS", 150)
        source = random.Random(0)
        for module in (canaries, overheard):
            patch.setattr(module, "new_key", lambda: source.randbytes(32))
        yield


def sensitivity(place: Path) -> str:
    """`dpgen.auditing.oracle` on DP-SGD."""
    return _moved(SGD)


def one_shot_sensitivity(place: Path) -> str:
    """`dpgen.auditing.oracle` on a one-shot release."""
    return _moved(NoisySum(Told(), 1.0))


def _moved(mechanism: NoisySGD | NoisySum) -> str:
    with smaller():
        found = oracles.oracle(mechanism)
    return "" if found.passed else f"a record moved the sum by {rough(found.largest)} bounds"


def noise_and_coins(place: Path) -> str:
    """`dpgen.auditing.randomness` on DP-SGD and on a one-shot release."""
    for mechanism in (SGD, NoisySum(Told(), 1.7)):
        with smaller():
            found = randomness.randomness(mechanism)
        if found.distinct < 0.98:
            return f"{100 * found.distinct:.0f} % of the noise is distinct"
        beyond = {k: z for k, z in found.scores.items() if abs(z) > randomness.LIMIT}
        if beyond:
            name = next(iter(beyond))
            return f"{name}: z = {rough(beyond[name])}"
    return ""


_GAMES: dict[Any, Any] = {}


def one_run_game(place: Path) -> str:
    """`dpgen.auditing.games.white_box.one_run`: canaries in two steps of DP-SGD, in a release."""
    best = white_box.best_game

    def remembered(claim: Any, m: int, *rest: Any) -> Any:  # noqa: ANN401
        key = (claim.sentence, m, *rest)
        if key not in _GAMES:
            _GAMES[key] = best(claim, m, *rest)
            _ = _GAMES[key].fewest, _GAMES[key].detectable_mu
        return _GAMES[key]

    seen = []
    release = NoisySum(canaries.CanaryStatistic(3.0, 1), 1.0)
    for mechanism in (SGD, release):
        sharp = white_box.sharpened(mechanism, "add_remove", mu=2.0)
        with smaller(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(white_box, "best_game", remembered)
            found = white_box.one_run(sharp, adjacency="add_remove", delta=DELTA, m=400)
        if not found.passed and found.worlds is not None:
            seen.append(max(found.mu_low, found.worlds.mu_low))
    return f"mu is at least {max(seen):.2f} where 2 is claimed" if seen else ""


def two_world_game(place: Path) -> str:
    """`two_world` of `dpgen.auditing.games.white_box`: one canary among others, forty runs each."""
    sharp = white_box.sharpened(SGD, "add_remove", mu=1.0, n_steps=2)
    with smaller():
        found = white_box.two_world(sharp, adjacency="add_remove", delta=DELTA, n_runs=40)
    return "" if found.passed else f"mu is at least {found.mu_low:.2f} where 1 is claimed"


@dataclass(frozen=True)
class Told:
    """A statistic whose values are the pixels of a record: half of them in each of two tables."""

    bound: float = 3.0
    n_rows: int = 4

    @property
    def tables(self) -> dict[str, tuple[int, int]]:
        return {"one": (self.n_rows, 6), "two": (self.n_rows, 6)}

    @property
    def settings(self) -> dict[str, Any]:
        return {"name": "Told", "bound": self.bound}

    def __call__(self, pixels: Tensor, labels: Tensor) -> dict[str, Block]:
        one, two = pixels.split(6, 1)
        return {"one": Block(one, labels), "two": Block(two, labels)}


class Rows:
    """Records (N, D) whose pixels mean something else; of one class, so other rows are empty."""

    def __init__(self, values: Tensor) -> None:
        self._values, self.n_slots = values, len(values)

    def read(self, slots: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        labels = torch.zeros(len(slots), dtype=torch.int64)
        return self._values[slots], labels, torch.ones(len(slots), dtype=torch.bool)


class Listening(KeyedNoise):
    """Takes down every sum before its noise and the answer; every record is in the batch."""

    def __init__(self) -> None:
        super().__init__(bytes(32), "listening")
        self.heard: dict[str, tuple[Tensor, Tensor]] = {}

    def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        answer = super().add(total, std, release=release, name=name)
        self.heard[name] = (total.double().clone(), answer)
        return answer

    def coins(self, n: int, rate: float, *, release: int) -> np.ndarray:
        return np.arange(n, dtype=np.int64)


def noise_on_contents(place: Path) -> str:
    """The noise of a step and of a release whose sums are large in some places and 0 in others."""
    seen = []
    for n in (0, 40):
        values, noise = torch.full((n, 12), 1e3), Listening()
        wide = NoisySum(Told(n_rows=2000), 1.7)
        wide.release(Rows(values), noise)
        seen += _spread(noise, 1.7 * 3.0)
        noise = Listening()
        step = next(SGD.steps(Rows(values), noise, start=0, micro_batch=16, device=CPU))
        step.gradient(RowByRow(), {"w": torch.zeros(12, 1000)})
        seen += _spread(noise, 1.3 * 0.7)
    worst = max(seen, key=abs)
    if abs(worst) <= randomness.LIMIT:
        return ""
    return f"variance of the noise: z = {rough(worst)}"


def _spread(noise: Listening, std: float) -> list[float]:
    found = [((answer - before) / std).flatten() for before, answer in noise.heard.values()]
    return [float((x.square().mean() - 1) * math.sqrt(len(x) / 2)) for x in found]


@dataclass(frozen=True)
class RowByRow:
    """A loss whose gradient is a record's pixels, in every column."""

    def draw(self, draws: object) -> dict[str, Tensor]:
        return {}

    def loss(
        self, parameters: dict[str, Tensor], pixels: Tensor, label: Tensor, draws: object
    ) -> Tensor:
        return (parameters["w"].sum(1) * pixels).sum()


def rounding(place: Path) -> str:
    """One record more on top of sixty thousand equal ones."""
    largest, generator = 0.0, torch.Generator().manual_seed(0)
    for direction in torch.randn(1, 12, generator=generator):
        parameters = {"w": torch.zeros(12, 1)}
        total = noisy_step.zero_sum(parameters)
        for n in (30_000, 30_000, 1):
            before = total["w"].double().clone()
            valid = torch.ones(n, dtype=torch.bool)
            batch = (1e3 * direction.expand(n, 12), torch.zeros(n), {"none": torch.zeros(n)})
            shares.add_clipped(total, RowByRow().loss, parameters, batch, valid, 0.7)
        largest = max(largest, float((total["w"].double() - before).norm()) / 0.7)
    # The margin of production is above every rounding; without it 1e-9 hides that of the test.
    past = largest - 1
    return "" if past <= 1e-9 else f"a record moved a long sum by {rough(past)} too many clip norms"


Detector = Callable[[Path], str]
MECHANISM: dict[str, Detector] = {
    "sensitivity": sensitivity,
    "one-shot sensitivity": one_shot_sensitivity,
    "rounding": rounding,
    "noise and coins": noise_and_coins,
    "noise on contents": noise_on_contents,
    "one-run game": one_run_game,
    "two-world game": two_world_game,
}
