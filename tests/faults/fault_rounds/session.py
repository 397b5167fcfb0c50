"""Rounds one after the other, in one world, and the file that keeps what became of each."""

from __future__ import annotations

import json
import random
import tempfile
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fault_rounds import copies, kills, launches, machine, races
from fault_rounds.rounds import Kind, Round, Skipped
from fault_rounds.world import World


def all_kinds() -> dict[str, Kind]:
    """Every kind of fault by its name."""
    return kills.kinds() | machine.kinds() | races.kinds() | copies.kinds() | launches.kinds()


def order(kinds: Mapping[str, Kind], n_rounds: int, only: int | None) -> list[tuple[int, str]]:
    """Every kind in turn: number and kind of each round."""
    names = list(kinds)
    found = [(number, names[number % len(names)]) for number in range(n_rounds)]
    return found if only is None else [pair for pair in found if pair[0] == only]


def do(world: World, name: str, kind: Kind, seed: int, number: int) -> dict[str, Any]:
    """A round and what became of it; its randomness is that of seed, kind and number alone."""
    place = world.place(f"round {number}")
    this = Round(world, place, random.Random(f"{seed} {name} {number}"))
    began, skipped = time.monotonic(), None
    try:
        kind(this)
    except Skipped as reason:
        skipped = str(reason)
    except Exception:
        this.violations.append(f"the checks fell over: {traceback.format_exc(limit=-3)}")
    finally:
        place.bury()
    logs = [p.read_text(errors="replace")[-1500:] for p in place.logs()] if this.violations else []
    if not this.violations:
        world.clear(place)
    return {
        "kind": name, "round": number, "seed": seed, "seen": this.seen, "skipped": skipped,
        "checked": dict(this.checked), "violations": this.violations, "logs": logs,
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def play(
    kinds: Mapping[str, Kind],
    n_rounds: int,
    seed: int,
    *,
    only: int | None = None,
    out: Path | None = None,
    keep: Path | None = None,
) -> list[dict[str, Any]]:
    """All rounds, under a progress bar; a violation is printed when it is seen.

    Args:
        only: number of the one round to do.
        out: JSON file of the rounds so far, written anew after each.
        keep: empty folder to work in, which stays; ``None``: a temporary one.
    """
    from rich.console import Console
    from rich.progress import Progress

    rounds: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="dpgen-faults-") as temporary:
        world = World(Path(keep or temporary).resolve())
        todo = order(kinds, n_rounds, only)
        # Not refreshed by a thread: this process forks.
        with Progress(console=Console(stderr=True), auto_refresh=False) as bar:
            task = bar.add_task("rounds", total=len(todo))
            for number, name in todo:
                bar.update(task, description=f"{number} {name}", refresh=True)
                row = do(world, name, kinds[name], seed, number)
                rounds.append(row)
                if out is not None:
                    out.write_text(json.dumps(rounds, indent=1) + "\n")
                for words in row["violations"]:
                    said = f"VIOLATED by {name}, --only {number}: {words}"
                    bar.console.print(said, markup=False, highlight=False, soft_wrap=True)
                bar.update(task, advance=1, refresh=True)
    return rounds
