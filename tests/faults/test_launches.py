"""Rounds of ``scripts/faults.py`` that kill one of several processes, and a broken package."""

from __future__ import annotations

import random
from typing import Any

import pytest
from fault_rounds import launches
from fault_rounds.rounds import Kind, Round

from dpgen.privacy.mechanisms.noisy_step import NoisyStep
from dpgen.stages.shared_steps import Helper

pytestmark = pytest.mark.slow


@pytest.fixture
def shared(world: Any, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401
    """A world that knows what the training is when nobody is killed."""
    monkeypatch.setattr(launches, "TRAININGS", ("dpdm",))
    world.reference("shared dpdm")
    return world


def done(world: Any, kind: Kind, seed: int) -> Round:  # noqa: ANN401
    this = Round(world, world.place(f"launch {seed} {random.random()}"), random.Random(seed))
    kind(this)
    world.clear(this.place)
    return this


@pytest.mark.parametrize("whom", ["process 0", "a worker", "all"])
def test_who_is_killed_changes_neither_the_model_nor_the_charge(
    whom: str,
    shared: Any,  # noqa: ANN401
) -> None:
    this = done(shared, launches.killed(whom), 6)
    assert not this.violations
    assert this.checked["as undisturbed"] and this.checked["charged once"]
    assert any(words.startswith("SIG") for words in this.seen), this.seen


@pytest.mark.parametrize("bug", ["a sum depends on who adds it", "noise depends on processes"])
def test_a_package_whose_model_depends_on_the_processes_is_found(
    bug: str,
    shared: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer, batches = Helper.answer, NoisyStep._batches

    def changed(self: Helper) -> Any:  # noqa: ANN401
        return {name: part * (1 + 1e-6) for name, part in answer(self).items()}

    def asked(self: NoisyStep, noise: Any) -> Any:  # noqa: ANN401
        self._noise = self._noise.for_question(f"of {len(self._shares._helpers)} helpers")
        return batches(self, self._noise)

    if bug.startswith("a sum"):
        monkeypatch.setattr(Helper, "answer", changed)
    else:
        monkeypatch.setattr(NoisyStep, "_batches", asked)
    this = Round(shared, shared.place(bug), random.Random(0))
    arguments = shared.train("dpdm", this.place, micro_batch=4)
    launches.again(this, "shared dpdm", arguments, 2)
    assert any(words.startswith("as undisturbed: model") for words in this.violations)
