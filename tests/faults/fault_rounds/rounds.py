"""A round: one fault, the disk looked at, the same command again, the disk looked at again."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fault_rounds import invariants
from fault_rounds.processes import Process
from fault_rounds.world import N_IMAGES, Place, World, spent


class Skipped(Exception):
    """What this machine cannot do; the words say why."""


@dataclass
class Round:
    """One fault and everything that was found out about it.

    Args:
        world: where it happens.
        place: its own folder.
        rng: everything random in it.
    """

    world: World
    place: Place
    rng: random.Random
    seen: list[str] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    @property
    def run(self) -> Path:
        return self.place.path / "run"

    def check(self, name: str, complaints: Iterable[str]) -> None:
        """Adds what an invariant, one of `invariants.NAMES`, complains of."""
        assert name in invariants.NAMES, name
        self.checked[name] += 1
        self.violations += [f"{name}: {words}" for words in complaints]

    def look(self, limit: float) -> None:
        """Everything that must hold at any moment, in the middle of anything."""
        place, home = self.place, self.place.home
        self.check("files whole", invariants.files_whole(place.path))
        self.check("ledger whole", invariants.ledger_whole(home, limit))
        if any(place.path.rglob("privacy.json")):
            self.check("statements verify", invariants.statements_verify(place.path))
        charged = invariants.charged_before_touched(place.touches, home, place.path)
        self.check("charged before touched", charged)
        self.check("executed within charged", invariants.executed_within_charged(home))
        self.check("one lineage", invariants.one_lineage(home))
        if (place.path / "set").exists():
            whole = invariants.set_whole_or_absent(place.path / "set", N_IMAGES)
            self.check("set whole or absent", whole)

    def ended(self, process: Process, status: int) -> None:
        """What a command that was not killed must have said, when it did not do its work."""
        if status == 0:
            self.seen.append("finished")
            return
        self.seen.append(f"exit {status}")
        self.check("said so", invariants.said_so(status, process.words()))

    def again(self, command: str, arguments: list[str], **how: Any) -> None:  # noqa: ANN401
        """The same command once more, undisturbed; afterwards nothing shows what came before."""
        process, place = self.place.start(arguments, **how), self.place
        status = process.finish()
        self.check("finishes", invariants.finishes(status, process.words()))
        reference = self.world.reference(command)
        if status == 0:
            out = arguments[arguments.index("--out") + 1]
            # Beside a copy of a run folder, which keeps what it held, only its own folder.
            alone = Path(out) if (place.path / "copy").exists() else place.path
            left = invariants.nothing_left_over(alone, place.home)
            self.check("nothing left over", left)
            if how.get("warm", True):
                same = invariants.as_undisturbed(Path(out), reference.files)
                self.check("as undisturbed", same)
        place.bury()
        self.look(max(reference.epsilon, 1.0))
        if reference.epsilon and status == 0:
            under = invariants.never_under_counted(spent(place.home), reference.epsilon, equal=True)
            self.check("never under-counted", under)
            self.check("charged once", invariants.charged_once(place.home, 1))


def phase(place: Place) -> str:
    """How far a command had come, from what lies on the disk."""
    if (place.path / "set").exists():
        return "done"
    if (place.path / ".set.partial").exists():
        return "writing"
    run = place.path / "run"
    if (run / "privacy.json").exists():
        return "done"
    if (run / "model.safetensors").exists() or (run / "config.json").exists():
        return "releasing"
    if any((run / "checkpoint" / "state").glob("*.safetensors")):
        return "states"
    if place.touches.exists():
        return "touched"
    if any(line["kind"] == "charge" for line in invariants.lines_of(place.home)):
        return "charged"
    if (run / "checkpoint" / "run.json").exists():
        return "begun"
    return "before"


Kind = Callable[[Round], None]
