"""Detectors that begin, kill and resume runs on private data, and one that looks at prices."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from dp_accounting import NeighboringRelation, dp_event
from dp_accounting.pld import PLDAccountant
from torch import Tensor

from dpgen.auditing.games.bounds import gaussian_epsilon
from dpgen.auditing.games.canaries import CanaryStatistic
from dpgen.auditing.stand_ins import StandIns
from dpgen.data.private import PrivateDataset
from dpgen.images.images import PublicFacts
from dpgen.privacy.accounting.accountant import Budget, epsilon_of
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.ledger.privacy_ledger import BudgetExceeded
from dpgen.privacy.lineage import witness
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.privacy.mechanisms.noisy_step import NoisyStep
from dpgen.privacy.plan import Plan, Stage
from dpgen.runs.checkpoint import Checkpoints
from tests.relations import ADD_REMOVE, REPLACE_ONE

N = 40
FACTS = PublicFacts((1, 1, 1), ("a",), N, origin="stated")
SUM = NoisySum(CanaryStatistic(1.0, 200), 20.0)
SGD = NoisySGD(0.3, 4, 20.0, N)
STEPS = "steps"
PLAN = Plan((Stage("one", SUM), Stage("two", SUM), Stage(STEPS, SGD)), ADD_REMOVE)
FINISHED = PLAN.stages[-1].charge.plan
LIMIT = Budget(2.0, 1e-5)


class Private(StandIns):
    """Records that are not public, so that their ledger lies in the installation."""

    public = False


def source() -> Private:
    pixels = torch.arange(N, dtype=torch.uint8).reshape(N, 1, 1, 1)
    return Private(pixels, torch.zeros(N, dtype=torch.int64), ("a",))


class Run:
    """A run, or what goes on of it after a kill: everything that is in memory is new."""

    def __init__(self, place: Path, plan: Plan = PLAN, limit: Budget = LIMIT) -> None:
        witness._ANSWERED.clear()
        self.data, self.states = PrivateDataset(source(), facts=FACTS), Checkpoints(place / "state")
        self.data.open_ledger(limit, place)
        self.keys = StageKeys(place / "keys")
        self.data.begin(place.name, self.keys, plan)

    def tables(self, label: str) -> Tensor:
        released = self.data.release(SUM, label=label)
        return torch.cat([table.flatten() for table in released.values()])

    def answers(
        self, start: int, stop: int, *, saved: int = 0
    ) -> dict[int, tuple[bytes, Tensor]]:
        """The coins and the noisy gradients of some steps, of which a state holds those before
        step ``saved``.
        """
        found, coins = {}, KeyedNoise.coins
        drawn: list[np.ndarray] = []

        def listening(*given: object, **named: object) -> np.ndarray:
            drawn.append(coins(*given, **named))  # type: ignore[arg-type]
            return drawn[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(KeyedNoise, "coins", listening)
            steps = self.data.steps(SGD, label=STEPS, start=start, micro_batch=N)
            for step in steps:
                answer = _gradient(step)
                found[step.index] = (drawn[-1].tobytes(), answer)
                if step.index + 1 == stop:
                    steps.close()  # type: ignore[attr-defined]
        if saved:
            self.data.save_state(self.states, STEPS, {}, step=saved)
        return found


@dataclass(frozen=True)
class _Asking:
    """Of 400 coordinates one is what the records say."""

    def draw(self, draws: object) -> dict[str, Tensor]:
        return {}

    def loss(
        self, parameters: dict[str, Tensor], pixels: Tensor, label: Tensor, draws: object
    ) -> Tensor:
        return (parameters["w"][0] * pixels).sum()


def _gradient(step: NoisyStep) -> Tensor:
    return step.gradient(_Asking(), {"w": torch.zeros(400)})["w"]


def _alike(one: Tensor, other: Tensor) -> bool:
    """Whether two answers share their noise: a correlation beyond six standard errors."""
    one, other = one.double()[1:], other.double()[1:]
    z = float((one * other).sum() / (one.norm() * other.norm())) * math.sqrt(len(one))
    return abs(z) > 6


def resume(place: Path) -> str:
    """A step redone after a kill gives its coins and its noise again, for nothing; a finished stage
    is never asked again.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPGEN_HOME", str(place / "home"))
        folder = place / "run"
        first = Run(folder).answers(0, 2, saved=1)
        n_lines = len(_charges(Run(folder)))
        resumed = Run(folder)
        second = resumed.answers(1, SGD.n_steps)
        if len(_charges(resumed)) != n_lines or n_lines != len(PLAN.stages):
            return "a resumed run pays again"
        same = [first[1][0] == second[1][0], bool(torch.equal(first[1][1], second[1][1]))]
        wrong = []
        if not same[0]:
            wrong.append("a redone step has other coins")
        if same[0] and not same[1] or not same[0] and not _alike(first[1][1], second[1][1]):
            wrong.append("a redone step has other noise")
        others = [(first[0], second[2]), (first[0], second[3]), (second[2], second[3]),
                  (first[0], second[1])]  # fmt: skip
        if any(_alike(one[1], other[1]) for one, other in others):
            wrong.append("two steps share their noise")
        resumed.data.finish(STEPS, SGD)
        for again in (lambda: Run(folder).answers(0, 1), lambda: resumed.keys.noise(FINISHED)):
            with contextlib.suppress(LedgerError):
                again()
                wrong.append("a finished stage can be asked again")
        return "; ".join(wrong)


def _charges(run: Run) -> list[object]:
    return [line for line in run.data.ledger.lines() if line["kind"] == "charge"]


def keys(place: Path) -> str:
    """Two runs, and two stages of a run, share no noise, whatever is seeded."""
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        patch.setenv("DPGEN_HOME", str(place / "home"))
        answers = []
        for name in ("one", "other"):
            torch.manual_seed(0)
            run = Run(place / name)
            answers.append((run.tables("one"), run.tables("two")))
        (a, b), (c, d) = answers
    if _alike(a, b):
        return "two stages share their noise"
    return "two runs share their noise" if _alike(a, c) or _alike(b, d) else ""


def budget(place: Path) -> str:
    """A second run on the same records is refused when the first has spent what there is."""
    plan = Plan(PLAN.stages[:2], ADD_REMOVE)
    spent = gaussian_epsilon(math.sqrt(2) / 20.0, LIMIT.delta)
    limit = Budget(1.1 * spent, LIMIT.delta)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPGEN_HOME", str(place / "home"))
        Run(place / "one", plan, limit)
        try:
            Run(place / "other", plan, limit)
        except BudgetExceeded:
            return ""
    return "a second run is not refused"


def price(place: Path) -> str:
    """Prices against closed forms of Gaussians, and against events written by hand."""
    delta, steps = 1e-5, NoisySGD(0.1, 30, 2.0, 100)
    gaussian = NoisySum(CanaryStatistic(1.0, 1), 2.0).event
    for relation, moved in (
        (ADD_REMOVE, 1.0),
        (REPLACE_ONE, 2.0),
        (Relation("add_remove", 3), 3.0),
    ):
        exact = gaussian_epsilon(moved / 2.0, delta)  # to 1e-10
        if epsilon_of(gaussian, delta, relation) < exact * (1 - 1e-9):
            return f"too cheap for {relation.phrase}"
    inner = dp_event.PoissonSampledDpEvent(0.1, dp_event.GaussianDpEvent(2.0))
    accountant = PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE)
    accountant.compose(dp_event.SelfComposedDpEvent(inner, 30))
    exact = accountant.get_epsilon(delta)
    return (
        ""
        if epsilon_of(steps.event, delta, ADD_REMOVE) >= 0.99 * exact
        else ("thirty steps of DP-SGD are too cheap")
    )


RUN: dict[str, Callable[[Path], str]] = {
    "resume": resume,
    "keys": keys,
    "budget": budget,
    "price": price,
}
