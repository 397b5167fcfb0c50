"""A few rounds of ``scripts/faults.py``, and rounds with a broken package, which they find."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fault_rounds import copies, kills, machine
from fault_rounds.rounds import Kind, Round

from dpgen.data import export
from dpgen.privacy.ledger.privacy_ledger import PrivacyLedger
from dpgen.privacy.ledger.shared_ledger import SharedLedger
from dpgen.privacy.lineage.descent import Descent


def done(world: Any, kind: Kind, name: str, seed: int = 3) -> Round:  # noqa: ANN401
    this = Round(world, world.place(name), random.Random(seed))
    kind(this)
    return this


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_a_training_killed_anywhere_goes_on_to_the_same_bytes_and_pays_once(
    share: float,
    world: Any,  # noqa: ANN401
    training: str,
) -> None:
    this = done(world, kills.training(training, aimed=True), f"killed at {share}", share)
    assert not this.violations
    assert this.checked["as undisturbed"] and this.checked["charged once"]
    assert this.seen[0].startswith("killed at ")


def test_of_a_copied_training_one_goes_on(world: Any, training: str) -> None:  # noqa: ANN401
    this = done(world, copies.continued_twice(training), "copied", 4)
    assert not this.violations
    assert this.seen[-1] == "second: exit 2" and this.checked["one lineage"] > 2


def test_a_package_that_continues_copies_is_found(
    world: Any,  # noqa: ANN401
    training: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Descent, "_require", lambda *_: None)
    monkeypatch.setattr("dpgen.privacy.lineage.descent.last_mark", lambda *_: "")
    this = done(world, copies.continued_twice(training), "copied freely", 4)
    assert any(words.startswith("one lineage") for words in this.violations)


def test_a_training_out_of_space_says_so_and_goes_on(
    world: Any,  # noqa: ANN401
    training: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "TRAININGS", {training: None})
    this = done(world, machine.failing("full", "train"), "full", 5)
    assert not this.violations
    assert this.seen[0].startswith("exit 3") and this.checked["said so"]


def test_a_package_that_reads_before_it_pays_is_found(
    world: Any,  # noqa: ANN401
    training: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def opened(account: SharedLedger, *_: Any) -> None:  # noqa: ANN401
        ledger = account._own
        with ledger._file.locked() as lines:
            ledger._file.append(lines, ledger._opening_for(lines))

    monkeypatch.setattr(SharedLedger, "charge", opened)
    monkeypatch.setattr(PrivacyLedger, "holds", lambda *_: True)
    monkeypatch.setattr(Descent, "enter", lambda *_: None)
    monkeypatch.setattr("dpgen.privacy.lineage.keys.StageKeys.create", lambda *_: None)
    monkeypatch.setattr("dpgen.privacy.lineage.keys.StageKeys.noise", _some_noise)
    this = Round(world, world.place("unpaid"), random.Random(0))
    this.place.start(world.train(training, this.place)).finish()
    this.look(1.0)
    assert any(words.startswith("charged before touched") for words in this.violations)


def _some_noise(_: object, plan: str) -> Any:  # noqa: ANN401
    from dpgen.privacy.mechanisms.noise import KeyedNoise

    return KeyedNoise(b"k" * 32, plan)


def test_a_package_that_writes_a_set_where_it_will_be_is_found(
    world: Any,  # noqa: ANN401
    training: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @contextmanager
    def straight(target: Path) -> Iterator[Path]:
        target.mkdir(parents=True)
        yield target

    monkeypatch.setattr(type(world), "run", lambda own: _run(own, training))
    monkeypatch.setattr(export, "_partial", straight)
    world.reference("sample folder")
    this = done(world, kills.sampling("folder", aimed=True), "straight", 0.5)
    assert any(words.startswith("set whole or absent") for words in this.violations)


def _run(world: Any, training: str) -> Path:  # noqa: ANN401
    return Path(world.path / f"undisturbed train {training}" / "run")
