"""Neighbour replay of the whole of `fit`: forced to one noisy transcript, two neighbours differ
before
the noise by at most what is declared, and in nothing that is released.

The transcript is recorded on one data set and forced on its neighbour through the one place where
randomness meets private sums. Coins, draws and noise come from the same keys, so every difference
that is left was made by the one record.
"""

from __future__ import annotations

import copy
import logging
import re
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dpgen.auditing.overheard import bound
from dpgen.data.private import PrivateDataset
from dpgen.privacy.ledger import ledger_file
from dpgen.privacy.ledger.shared_ledger import SharedLedger
from dpgen.privacy.lineage import keys
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.mechanisms.draws import Draws
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.privacy.statements import certificate
from dpgen.privacy.verification.verify import verify
from dpgen.runs.checkpoint import Checkpoints
from dpgen.runs.context import Hardware

Key = tuple[str, int, str]  # plan hash of the stage, release, tensor
N_RECORDS = 30  # slots that both neighbours have; the canary takes the next one

WHITE, BLACK = np.full((8, 8), 255, np.uint8), np.zeros((8, 8), np.uint8)
CHECKS = np.indices((8, 8)).sum(0).astype(np.uint8) % 2 * 255


class World:
    """What one run answered, before and after the noise, and everything else it let out."""

    def __init__(self, forced: World | None) -> None:
        self.forced = forced
        self.before: dict[Key, Tensor] = {}
        self.answers: dict[Key, Tensor] = {}
        self.rates: dict[tuple[str, int], float] = {}
        self.stds: dict[Key, float] = {}
        self.coins: dict[tuple[str, int], list[int]] = {}
        self.questions: list[str] = []
        self.files: dict[str, bytes] = {}
        self.checkpoints: list[tuple[str, dict[str, Tensor], dict[str, Any]]] = []
        self.said = ""
        self.labels: dict[str, str] = {}
        self.bounds: dict[str, float] = {}
        self.n_releases: dict[str, int] = {}


class Transcript:
    """A NoiseSource of production that records every answer and, in the second world, repeats the
    first world's."""

    def __init__(self, source: KeyedNoise, plan: str, world: World, canary: int) -> None:
        self._source, self._plan, self._world, self._canary = source, plan, world, canary

    def for_question(self, question: str) -> Transcript:
        self._world.questions.append(question)
        bound = copy.copy(self)
        bound._source = self._source.for_question(question)
        return bound

    def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        key, world = (self._plan, release, name), self._world
        assert key not in world.before, "the noise of a release is drawn once"
        world.before[key], world.stds[key] = total.clone(), std
        answer = self._source.add(total, std, release=release, name=name)
        if world.forced is not None:
            answer = world.forced.answers[key].clone()
        world.answers[key] = answer.clone()
        return answer

    def coins(self, n: int, rate: float, *, release: int) -> np.ndarray:
        assert (self._plan, release) not in self._world.coins, "coins are tossed once"
        chosen = set(self._source.coins(n, rate, release=release).tolist())
        if release == 0 and self._canary < n:
            chosen.add(self._canary)
        self._world.rates[self._plan, release] = rate
        self._world.coins[self._plan, release] = sorted(chosen)
        return np.array(sorted(chosen), dtype=np.int64)

    def draws(self, slots: np.ndarray, **where: Any) -> Draws:  # noqa: ANN401
        return self._source.draws(slots, **where)

    def tag(self, content: bytes) -> bytes:
        return self._source.tag(content)


class Noon(datetime):
    """Every clock at noon: time of day is no function of the records."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime:  # type: ignore[override] # noqa: ANN401
        return datetime(2024, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def live(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    untrained: Callable[..., Any],
    dataset: Callable[..., PrivateDataset],
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> Callable[..., World]:
    """Runs `fit` in one world, every state saved, all random names alike."""

    def run(
        method: str,
        source: Any,  # noqa: ANN401
        *,
        forced: World | None = None,
        adjacency: str = "add_remove",
        canary: int = N_RECORDS,
    ) -> World:
        world = World(forced)
        home = tmp_path / secrets.token_hex(4)
        (home / "home").mkdir(parents=True)
        (home / "home" / "key").write_bytes(b"i" * 32)  # its name stands in the ledger
        data = dataset(source, adjacency)
        names = iter(f"{i:032x}" for i in range(100))

        def noise(stage_keys: StageKeys, plan: str) -> Transcript:
            assert (stage_keys._folder / f"{plan}.key").exists()
            return Transcript(KeyedNoise(b"k" * 32, plan), plan, world, canary)

        def save(
            states: Checkpoints, name: str, tensors: dict[str, Tensor], **numbers: Any  # noqa: ANN401
        ) -> None:  # noqa: ANN401
            whole = {key: tensor.detach().clone() for key, tensor in tensors.items()}
            world.checkpoints.append((name, whole, numbers))
            write(states, name, tensors, **numbers)

        write = Checkpoints.save
        with monkeypatch.context() as patch:
            patch.setenv("DPGEN_HOME", str(home / "home"))
            patch.setattr(StageKeys, "noise", noise)
            patch.setattr("dpgen.privacy.lineage.keys.new_key", lambda: b"k" * 32)
            patch.setattr(Checkpoints, "due", lambda states: True)
            patch.setattr(Checkpoints, "save", save)
            patch.setattr(secrets, "token_hex", lambda n=None: next(names))
            patch.setattr(ledger_file, "datetime", Noon)
            patch.setattr(certificate, "datetime", Noon)
            generator = untrained(method)
            capfd.readouterr()
            caplog.clear()
            with caplog.at_level(logging.DEBUG):
                generator.fit(
                    data,
                    out=home / "run",
                    seed=1,
                    hardware=Hardware("cpu", micro_batch=4),
                    show=True,
                )
        out, err = capfd.readouterr()
        # A log hears of a loop that took long: whether it did is the machine's.
        said = re.sub(r".* (took|after) \d+:\d\d:\d\d.*\n", "", out + err + caplog.text)
        world.said = re.sub(r"\d+:\d\d:\d\d|-:--:--", "TIME", said)
        folder = home / "run"
        world.files = {p.name: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
        for stage in generator.plan(data.facts).stages:
            plan, mechanism = stage.charge.plan, stage.mechanism
            world.labels[plan] = stage.label
            world.n_releases[plan] = mechanism.n_releases
            world.bounds[plan] = bound(mechanism)
        assert not any(check.failed for check in verify(folder)), verify(folder)
        return world

    return run


def movements(one: World, other: World) -> dict[str, list[float]]:
    """Per stage and release, how far one neighbour's sum lies from the other's, in units of the
    bound, all tensors of the release taken together."""
    assert one.before.keys() == other.before.keys()
    squares: dict[tuple[str, int], float] = {}
    for (plan, release, name), total in one.before.items():
        gap = (total - other.before[plan, release, name]).square().sum().item()
        squares[plan, release] = squares.get((plan, release), 0.0) + gap
    found: dict[str, list[float]] = {}
    for (plan, _), square in sorted(squares.items(), key=lambda item: item[0][1]):
        found.setdefault(one.labels[plan], []).append(square**0.5 / one.bounds[plan])
    return found


def assert_released_alike(one: World, other: World) -> None:
    """All that leaves the private stage is bit-equal: files, checkpoints, rates, output and log."""
    assert one.rates == other.rates
    assert one.stds == other.stds
    assert one.questions == other.questions and one.questions
    assert one.files.keys() == other.files.keys()
    different = [name for name in one.files if one.files[name] != other.files[name]]
    assert different == []
    assert one.said == other.said
    assert [name for name, _, _ in one.checkpoints] == [name for name, _, _ in other.checkpoints]
    for (name, tensors, numbers), (_, others, other_numbers) in zip(
        one.checkpoints, other.checkpoints, strict=True
    ):
        assert numbers == other_numbers, name
        assert tensors.keys() == others.keys(), name
        assert all(torch.equal(tensors[key], others[key]) for key in tensors), name


def assert_priced(world: World) -> None:
    """The releases that happened are those of the plan, no more and no fewer, at its noise."""
    happened: dict[str, set[int]] = {}
    for plan, release, _ in world.before:
        happened.setdefault(plan, set()).add(release)
    assert happened == {plan: set(range(n)) for plan, n in world.n_releases.items()}


@pytest.fixture
def duplicate(records: Any) -> tuple[np.ndarray, int]:  # noqa: ANN401
    return records.pixels[3], records.labels[3]


STAGES = {"class means", "class spread", "teacher"}
CANARIES = {
    "white": (WHITE, 0),
    "black": (BLACK, 1),
    "checks in a class of its own making": (CHECKS, 2),
}


def moved_by_added(
    live: Callable[..., World],
    name: str,
    records: Any,  # noqa: ANN401
    without: World,
    canaries: Mapping[str, tuple[np.ndarray, int]],
    stages: set[str],
) -> dict[str, dict[str, list[float]]]:
    """Adds each canary to the records of a run that is priced as it was planned, and returns how
    far each moves every release, in bounds: at most one. No canary shows in what is released.
    """
    assert_priced(without)
    found = {}
    for canary, (pixels, label) in canaries.items():
        world = live(name, records.plus(pixels, label), forced=without)
        assert_released_alike(without, world)
        found[canary] = moved = movements(without, world)
        assert set(moved) == stages, canary
        for stage, values in moved.items():
            assert max(values) <= 1.0, (canary, stage)
    return found


def reached(found: Mapping[str, Mapping[str, list[float]]]) -> dict[str, float]:
    """Returns how far each release was moved by the canary that moved it most."""
    stages = next(iter(found.values()))
    return {stage: max(max(moved[stage]) for moved in found.values()) for stage in stages}


def test_added_records_move_dp_sad_by_at_most_what_is_declared_and_show_in_nothing_released(
    live: Callable[..., World],
    records: Any,  # noqa: ANN401
    duplicate: tuple[np.ndarray, int],
) -> None:
    canaries = {**CANARIES, "duplicate": duplicate}
    without = live("dp-sad", records)
    found = moved_by_added(live, "dp-sad", records, without, canaries, STAGES)
    for moved in found.values():
        assert moved["teacher"][0] > 0, "the canary's first coin is forced"
    # Not vacuous: some neighbour uses up what every stage declares.
    assert min(reached(found).values()) >= 0.99, found


def test_a_record_outside_the_declared_classes_moves_nothing_at_all(
    live: Callable[..., World],
    records: Any,  # noqa: ANN401
) -> None:
    without = live("dpdm", records)
    for label in (3, -1):
        world = live("dpdm", records.plus(WHITE, label), forced=without)
        assert_released_alike(without, world)
        assert {max(values) for values in movements(without, world).values()} == {0.0}


def test_a_removed_record_moves_dpdm_by_at_most_what_is_declared_and_shows_in_nothing_released(
    live: Callable[..., World],
    records: Any,  # noqa: ANN401
) -> None:
    with_canary = live("dpdm", records.plus(WHITE, 0))
    assert_priced(with_canary)
    world = live("dpdm", records, forced=with_canary)
    assert_released_alike(with_canary, world)
    moved = movements(with_canary, world)
    assert all(max(values) <= 1.0 for values in moved.values())
    assert all(max(values) >= 0.99 for values in moved.values()), moved
    # Nobody else's coin is another one, and the canary's came up.
    assert any(N_RECORDS in chosen for chosen in with_canary.coins.values())
    for key, chosen in with_canary.coins.items():
        assert [slot for slot in chosen if slot < N_RECORDS] == world.coins[key]


@pytest.mark.parametrize("method", ["dp-sad", "dpdm"])
def test_a_replaced_record_moves_a_release_by_at_most_twice_the_bound(
    method: str,
    live: Callable[..., World],
    records: Any,  # noqa: ANN401
) -> None:
    base = records.but_last()
    last = N_RECORDS - 1
    first = live(method, base.plus(WHITE, 0), adjacency="replace_one", canary=last)
    world = live(method, base.plus(BLACK, 1), adjacency="replace_one", canary=last, forced=first)
    assert_released_alike(first, world)
    moved = movements(first, world)
    assert all(max(values) <= 2.0 for values in moved.values())
    # Two records in two classes: their parts of a table are orthogonal, and together pass one
    # bound.
    assert max(moved["class means"]) > 1.2 and max(moved["class spread"]) > 1.2
    assert first.coins == world.coins


def test_the_only_record_of_its_class_moves_dp_sad_by_no_more_than_any_other(
    live: Callable[..., World],
    records: Any,  # noqa: ANN401
) -> None:
    """The record that breaks the published flow (`test_paper.py`)."""
    rows = [i for i, label in enumerate(records.labels) if label != 2]
    rest = type(records)(records.pixels[rows], [records.labels[i] for i in rows], ("a", "b", "c"))
    without = live("dp-sad", rest, canary=len(rows))
    world = live("dp-sad", rest.plus(WHITE, 2), forced=without, canary=len(rows))
    assert_released_alike(without, world)
    moved = movements(without, world)
    assert moved["teacher"][0] > 0, "the canary's first coin is forced"
    assert all(max(values) <= 1.0 for values in moved.values())


def test_every_read_belongs_to_a_release_that_was_charged_before(
    live: Callable[..., World],
    records: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    charged: list[str] = []
    charge = SharedLedger.charge

    def watched(book: SharedLedger, run: str, charges: Any) -> None:  # noqa: ANN401
        charge(book, run, charges)
        charged.extend(line["label"] for line in book._own.lines() if line["kind"] == "charge")

    monkeypatch.setattr(SharedLedger, "charge", watched)
    read: list[tuple[int, list[str]]] = []
    source = records.plus(WHITE, 0)
    plain = source.read
    source.read = lambda rows: read.append((len(rows), list(charged))) or plain(rows)
    world = live("dp-sad", source)
    assert all(labels == ["class means", "class spread", "teacher"] for _, labels in read)
    # Two sums over all 31 records, in one piece, and the micro-batches of four that coins chose.
    batches = sum(-(-len(chosen) // 4) for chosen in world.coins.values())
    assert len(read) == 2 + batches
    assert sum(n for n, _ in read) == 2 * 31 + sum(map(len, world.coins.values()))


def test_the_plan_is_a_function_of_the_facts_alone(
    records: Any,  # noqa: ANN401
    untrained: Callable[..., Any],
    dataset: Callable[..., PrivateDataset],
) -> None:
    one, other = dataset(records), dataset(records.plus(WHITE, 0).plus(BLACK, 0))
    for method in ("dp-sad", "dpdm"):
        generator = untrained(method)
        assert generator.plan(one.facts) == generator.plan(other.facts)
        assert generator.resolve(one.facts) == generator.resolve(other.facts)
        hashes = [stage.charge.plan for stage in generator.plan(one.facts).stages]
        assert hashes == [stage.charge.plan for stage in generator.plan(other.facts).stages]


def test_a_fresh_run_draws_a_fresh_key_for_every_stage(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn = []
    new_key = keys.new_key
    monkeypatch.setattr(keys, "new_key", lambda: drawn.append(new_key()) or drawn[-1])
    for run in ("one", "two"):
        for plan in ("p", "q"):
            StageKeys(tmp_path / run).create(plan)
    assert len(set(drawn)) == 4 and all(len(key) == 32 for key in drawn)
