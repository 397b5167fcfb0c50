"""Detectors that run a whole `fit`: neighbour replay, and hooks in the noise kernel and in the
reader of records.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from dpgen.auditing import isolation, keys
from dpgen.auditing import replay as replays
from dpgen.auditing.long_run import of_a_run
from dpgen.auditing.stand_ins import StandIns, neighbours
from dpgen.data.private import PrivateDataset
from dpgen.generator.interface import PrivateGenerator
from dpgen.images.images import PublicFacts
from dpgen.methods.dpdm import DPDM, DPDMSettings
from dpgen.networks.denoiser_config import PRESETS
from dpgen.privacy.accounting.accountant import Budget, epsilon_of
from dpgen.privacy.accounting.events import event_from_json, leaves
from dpgen.privacy.ledger.charges import charged_event, executed_releases
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.privacy.statements.certificate import read_statement
from dpgen.privacy.verification.verify import verify
from dpgen.runs.context import Hardware
from dpgen.stages.teacher import TeacherSettings
from tests.mutations.bug import bare
from tests.mutations.mechanism_detectors import past

FACTS = PublicFacts((1, 8, 8), ("a", "b", "c"), 16, origin="stated")
MANY = replace(FACTS, n_records=60_000)
BUDGET = Budget(0.3, 1e-3)
MECHANISMS = ("/mechanisms/noisy_step.py", "/mechanisms/noisy_sum.py")
NEIGHBOURS = ("checks, alone in its class", "of no declared class")


def untrained() -> DPDM:
    """Two releases and two steps of DP-SGD, on as small a network as there is."""
    settings = TeacherSettings(
        warm_start_share=0.5, n_steps=2, n_draws=1, batch=8, bands=2, clip_norm=0.05
    )
    return DPDM(budget=BUDGET, settings=DPDMSettings(teacher=settings, sampling_steps=1))


@contextmanager
def quick(place: Path) -> Iterator[pytest.MonkeyPatch]:
    """An installation of its own, a network of one level, the neighbours that show the most."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPGEN_HOME", str(place / "home"))
        least = PRESETS["tiny"]._replace(
            channels=(8,), layers_per_block=1, norm_groups=4, halve_from=99, attention_at=0
        )
        patch.setitem(PRESETS, "tiny", least)
        patch.setattr(PrivateGenerator, "_preview", lambda *given: None)

        def fewer(facts: PublicFacts, seed: int) -> tuple[StandIns, dict[str, StandIns]]:
            first, others = neighbours(facts, seed)
            return first, {name: others[name] for name in NEIGHBOURS}

        patch.setattr(replays, "neighbours", fewer)
        yield patch


class Fixed(KeyedNoise):
    """Noise and draws that are the same in every run, on every machine, whatever is asked."""

    def for_question(self, question: str) -> Fixed:
        return self

    def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        return total.double() + std * bare(KeyedNoise.add, self, total, release, name)


def fixed(data: PrivateDataset, keys: StageKeys, plan: str) -> Fixed:
    """In the place of `PrivateDataset.noise`."""
    return Fixed(bytes(32), plan)


def neighbour_replay(place: Path) -> str:
    """`dpgen.auditing.replay` on the whole of `fit`."""
    with quick(place) as patch:
        patch.setattr(PrivateDataset, "noise", fixed)
        return verdict(replays.replay(untrained, FACTS))


def verdict(found: replays.Replay) -> str:
    """Says what a replay has seen; empty if it has seen nothing."""
    if found.outside:
        return "records are read outside the mechanisms"
    if math.isinf(found.largest):
        return "a neighbour is asked other questions"
    if found.largest > found.allowed:
        return "a record moved a release by more than its bound"
    names = sorted({name for files in found.different.values() for name in files})
    if names:
        return f"a record shows in {', '.join(names)}"
    return f"no neighbour moves {', '.join(found.idle)}" if found.idle else ""


@contextmanager
def recorded(place: Path) -> Iterator[replays.World]:
    """One run under keys of its own, listened to."""
    with quick(place):
        yield replays.record(untrained, FACTS, hardware=Hardware("cpu"))


def one_run(place: Path) -> str:
    """The noise of one run: no stage, release or tensor has that of another."""
    with recorded(place) as world:
        found = of_a_run(world.noise)
    return f"not by chance: {found.accused[0]}" if found.accused else ""


def guesses(place: Path) -> str:
    """`dpgen.auditing.keys`: keys made of what one run publishes, of numbers and of the time."""
    with recorded(place) as world, pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "SMALL", 16)
        patch.setattr(keys, "RECENT", 4)
        made = list(keys.guesses(world.published, world.names))
        for plan, source in world.sources.items():
            right = keys.guessed(source, plan, made)
            if right is not None:
                return f"a key was guessed: {right.split(' of ')[0].split(' with ')[0]}"
    return ""


def isolated(place: Path) -> str:
    """`dpgen.auditing.isolation`: a record contributes the same in every row, among all others."""
    with quick(place) as patch:
        patch.setattr(PrivateDataset, "noise", fixed)
        patch.setattr(isolation, "N_ALONE", 8)
        world = replays.record(untrained, FACTS, hardware=Hardware("cpu"))
        for label, asked in world.asked.items():
            found = isolation.isolation(asked, MANY)
            if found.moved_too_far:
                return f"{label}: row and neighbours move what a record contributes"
            if not found.passed:
                return f"{label}: a record is {past(found.share)}"
    return ""


class Watched(StandIns):
    """Private records that know who reads them."""

    public = False
    seen: Callable[[str], None]

    def read(self, indices: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        frame, chain = sys._getframe(1), ""
        while frame is not None:
            chain, frame = chain + frame.f_code.co_filename + "\n", frame.f_back  # type: ignore[assignment]
        self.seen(chain)
        return super().read(indices)


def watched() -> Watched:
    base, _ = neighbours(FACTS, 0)
    return Watched(base.pixels, base.labels, base.class_names)


def doors(place: Path) -> str:
    """Every read of records comes from a mechanism, after its charge."""
    wrong: dict[str, None] = {}
    with quick(place):
        source = watched()
        data = PrivateDataset(source, facts=FACTS)

        def seen(chain: str) -> None:
            if not any(name in chain for name in MECHANISMS):
                wrong["records are read outside the mechanisms"] = None
            lines = data._ledger.lines() if data._ledger is not None else []
            if not any(line["kind"] == "charge" for line in lines):
                wrong["records are read before anything is charged"] = None

        object.__setattr__(source, "seen", seen)
        untrained().fit(data, out=place / "run", seed=0, hardware=Hardware("cpu"))
    return "; ".join(wrong)


class Heard:
    """What the noise kernel and the coins were asked for, by stage."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.stds: dict[str, set[float]] = {}
        self.rates: dict[str, set[float]] = {}
        self.asked: dict[tuple[str, int, str], int] = {}
        add, coins = KeyedNoise.add, KeyedNoise.coins

        def adding(
            source: KeyedNoise, total: Tensor, std: float, *, release: int, name: str
        ) -> Tensor:
            key = (source._plan, release, name)
            self.asked[key] = self.asked.get(key, 0) + 1
            self.stds.setdefault(source._plan, set()).add(std)
            return add(source, total, std, release=release, name=name)

        def drawing(source: KeyedNoise, n: int, rate: float, *, release: int) -> np.ndarray:
            self.rates.setdefault(source._plan, set()).add(rate)
            return coins(source, n, rate, release=release)

        patch.setattr(KeyedNoise, "add", adding)
        patch.setattr(KeyedNoise, "coins", drawing)

    def n_releases(self, plan: str) -> int:
        return len({release for asked, release, _ in self.asked if asked == plan})


def ledger(place: Path) -> str:
    """What the noise kernel did == what the ledger says == what the certificate prices."""
    with quick(place) as patch:
        heard = Heard(patch)
        data = PrivateDataset(watched_silently(), facts=FACTS)
        untrained().fit(data, out=place / "run", seed=0, hardware=Hardware("cpu"))
        lines, statement = data.ledger.lines(), read_statement(place / "run")
        failed = [check.name for check in verify(place / "run") if check.failed]
        if failed:
            return f"verify fails: {', '.join(failed)}"
        charged = [line for line in lines if line["kind"] == "charge"]
        noted, exact = (
            executed_releases(lines),
            epsilon_of(charged_event(lines), BUDGET.delta, data.ledger.relation),
        )
    if statement["guarantee"]["epsilon"] < exact:
        return "epsilon is stated smaller than it is"
    if max(heard.asked.values()) > 1:
        return "one noise answers two questions"
    if set(heard.stds) != {line["plan"] for line in charged}:
        return "stages that ran are not the stages that were charged"
    for line in charged:
        (leaf,), settings = leaves(event_from_json(line["event"])), _settings(statement, line)
        n, bound = heard.n_releases(line["plan"]), settings.get("clip_norm", settings.get("bound"))
        if not n == noted.get(line["label"], 0) == leaf.steps:
            return (
                f"{line['label']}: {n} releases ran, {noted.get(line['label'], 0)} are noted, "
                f"{leaf.steps} charged"
            )
        if any(
            abs(std / (leaf.noise_multiplier * bound) - 1) > 1e-9
            for std in heard.stds[line["plan"]]
        ):
            return f"{line['label']}: the noise is not the one that was charged"
        if heard.rates.get(line["plan"], {1.0}) != {leaf.rate}:
            return f"{line['label']}: the rate is not the one that was charged"
    return ""


def _settings(statement: dict[str, Any], line: dict[str, Any]) -> dict[str, Any]:
    return dict(statement["mechanism"]["stages"][line["label"]])


def watched_silently() -> Watched:
    source = watched()
    object.__setattr__(source, "seen", lambda chain: None)
    return source


def plan_invariance(place: Path) -> str:
    """A neighbour has the same facts, the same plan and the same charges."""
    with quick(place):
        base, others = neighbours(FACTS, 0)
        found = []
        for number, source in enumerate([base, *others.values()]):
            data = PrivateDataset(source, facts=FACTS)
            data.open_ledger(BUDGET, place / str(number))
            generator = untrained()
            generator.settings = generator.resolve(data.facts)
            plan = generator.plan(data.facts)
            found.append((data.facts, generator.settings, plan))
    return "" if all(one == found[0] for one in found[1:]) else "the plan depends on the records"


FIT: dict[str, Callable[[Path], str]] = {
    "neighbour replay": neighbour_replay,
    "one run": one_run,
    "guesses": guesses,
    "isolation": isolated,
    "doors": doors,
    "ledger": ledger,
    "plan": plan_invariance,
}
