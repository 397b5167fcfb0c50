"""Neighbour replay: the whole of `fit`, run on neighbouring data sets forced to one transcript.

Training runs once on public stand-in records, under keys of its own, and is recorded where
randomness is added to private sums. It then runs on neighbours that differ in one record, with the
same coins and draws, and with the first run's *noisy* answers in place of its own. Any remaining
difference between two worlds was caused by the one record:

    before the noise   every release may differ by the bound that its mechanism declares, by twice
                       that where neighbours replace a record
    after the noise    everything released is equal in every bit, because all of it is a function of
                       the noisy answers and of public numbers; and so are the questions, whose
                       digests are in the ledger

A teacher that was trained without protection, a batch norm, a normalisation by the actual batch, a
label histogram: every path of a record around the mechanisms is visible in one of the two, or in
the functions that read records. Wrong noise and wrong coins are not detected here; other tests
measure them. For those the first run's questions, published words and noise sources are kept.
"""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from dpgen.auditing.keys import published
from dpgen.auditing.overheard import bound
from dpgen.auditing.silos import silos_of_settings
from dpgen.auditing.stand_ins import StandIns, neighbours
from dpgen.auditing.worlds import ReplayedDataset, World
from dpgen.data.private import PrivateDataset
from dpgen.images.images import PublicFacts
from dpgen.privacy.plan import Plan, Stage
from dpgen.storage.canonical import canonical

DATED = ("ledger.jsonl", "privacy.json", "notice.json")


class Audited(Protocol):
    """A generator to be replayed, which has not learned anything yet."""

    def plan(self, facts: PublicFacts) -> Plan: ...

    def fit(
        self, data: PrivateDataset, *, out: Path, seed: int, show: bool,
        hardware: Any,  # noqa: ANN401
    ) -> Any: ...  # noqa: ANN401  # fmt: skip


@dataclass(frozen=True)
class Replay:
    """The result of a replay.

    moved: by stage and neighbour, the most that a release of the stage moved before its noise, in
        units of the stage's bound.
    allowed: 1, or 2 where neighbours replace a record.
    different: by neighbour, the released values that are not equal in every bit.
    outside: functions that read records outside the mechanisms. A choice that depends on records
        need not come out differently for any of these neighbours.
    base: the run that was recorded.
    """

    moved: Mapping[str, Mapping[str, float]]
    allowed: float
    different: Mapping[str, tuple[str, ...]]
    outside: tuple[str, ...]
    base: World

    @property
    def passed(self) -> bool:
        held = self.largest <= self.allowed and not self.outside
        return held and not any(self.different.values())

    @property
    def largest(self) -> float:
        return max((x for found in self.moved.values() for x in found.values()), default=0.0)

    @property
    def idle(self) -> tuple[str, ...]:
        """Returns the stages that no neighbour moved by a hundredth of the bound: about these the
        replay says nothing.
        """
        return tuple(
            name
            for name, found in self.moved.items()
            if max(found.values(), default=0.0) < 0.01 * self.allowed
        )


def hurried(settings: Any) -> Any:  # noqa: ANN401
    """Returns the settings with loops that cost no privacy cut to a few steps, by the ``hurried``
    method of every part that has one.
    """
    parts = {f.name: getattr(settings, f.name) for f in fields(settings)}
    short = {k: hurried(v) for k, v in parts.items() if is_dataclass(v)}
    settings = replace(settings, **short)
    return settings.hurried() if hasattr(settings, "hurried") else settings


def replay(
    make: Callable[[], Audited], facts: PublicFacts, *, seed: int = 0,
    hardware: Any = None,  # noqa: ANN401
    advance: Callable[[], None] = lambda: None,
) -> Replay:  # fmt: skip
    """Replays `fit` on neighbours of stand-in records.

    Args:
        make: makes a fresh generator each time, with `hurried` settings.
        facts: facts of the audited run: shape, classes, number of records, adjacency.
        seed: seed of the stand-ins and of the runs' public randomness.
        hardware: hardware that ``fit`` is to use.
        advance: called after each world; there are ``1 + len(neighbours)``.
    """
    base, others = record(make, facts, seed, hardware), neighbours(facts, seed)[1]
    stages = {stage.charge.plan: stage for stage in make().plan(facts).stages}
    moved: dict[str, dict[str, float]] = {stage.label: {} for stage in stages.values()}
    different: dict[str, tuple[str, ...]] = {}
    outside = set(base.outside)
    for name, source in others.items():
        advance()
        try:
            world = lived(make, source, facts, World(base), seed, hardware)
        except (Exception, SystemExit) as error:  # whether a run stops is a bit about its records
            different[name] = (f"an exception ({type(error).__name__})",)
            continue
        for label, distance in _movements(base, world, stages).items():
            moved.setdefault(label, {})[name] = distance
        different[name] = differing(base, world)
        outside |= world.outside
    advance()
    allowed = 2.0 if facts.adjacency == "replace_one" else 1.0
    return Replay(moved, allowed, different, tuple(sorted(outside)), base)


def record(
    make: Callable[[], Audited], facts: PublicFacts, seed: int = 0,
    hardware: Any = None,  # noqa: ANN401
) -> World:  # fmt: skip
    """Records the run that neighbours are compared with: ordinary stand-ins, keys and noise of its
    own.
    """
    return lived(make, neighbours(facts, seed)[0], facts, World(), seed, hardware)


def lived(
    make: Callable[[], Audited], source: StandIns, facts: PublicFacts, world: World, seed: int,
    hardware: Any,  # noqa: ANN401
) -> World:  # fmt: skip
    """Runs `fit` in a folder that is deleted afterwards, and returns the world with what the run
    said and all of its files except those with a random name or a date.
    """
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as place, redirect_stdout(said), redirect_stderr(said):
        folder = Path(place) / "run"
        made = make()
        data = ReplayedDataset(replace(source, silos=silos_of_settings(made)), facts, world)
        made.fit(data, out=folder, seed=seed, show=False, hardware=hardware)
        world.released = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name not in DATED
        }
        world.names += [str(seed), str(folder), str(folder.resolve()), data.ledger.dataset]
        world.published = list(published(folder))
    world.released["what it said"] = said.getvalue().encode()
    world.released["what it asked"] = canonical(world.questions).encode()
    return world


def _movements(one: World, other: World, stages: Mapping[str, Stage]) -> dict[str, float]:
    """Returns, by stage, the largest distance between the sums of the two worlds over all tensors
    of a release together, in units of the bound; infinity where the noise is not the priced one.
    """
    squares: dict[tuple[str, int], float] = dict.fromkeys(
        ((plan, release) for plan, release, _ in {**one.before, **other.before}), 0.0
    )
    for key in {**one.before, **other.before}:
        mine, theirs = one.before.get(key), other.before.get(key)
        if mine is None or theirs is None or mine.shape != theirs.shape:
            squares[key[:2]] = math.inf  # a release that only one of the two makes
        else:
            squares[key[:2]] += float((mine - theirs).square().sum())
    found: dict[str, float] = {}
    for (plan, _), square in squares.items():
        if plan not in stages:
            found["what the plan does not hold"] = math.inf
            continue
        label, mechanism = stages[plan].label, stages[plan].of_records
        found[label] = max(found.get(label, 0.0), square**0.5 / bound(mechanism))
    for (plan, _, _), std in {**one.stds, **other.stds}.items():
        if plan in stages:
            mechanism = stages[plan].of_records
            if not math.isclose(std, mechanism.noise_multiplier * bound(mechanism), rel_tol=1e-9):
                found[stages[plan].label] = math.inf
    return found


def differing(one: World, other: World) -> tuple[str, ...]:
    """Returns the released values of two worlds that are not equal in every bit."""
    names = {**one.released, **other.released}
    return tuple(n for n in names if one.released.get(n) != other.released.get(n))
