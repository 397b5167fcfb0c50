"""Breaks `dpgen` in the middle of its work, again and again, and looks at what is left on the disk.

    python scripts/faults.py --rounds 110 --seed 0 --out faults.json

Every round does one fault to a real command on real files: kill -9 of train, sample and benchmark,
a full disk, a folder that cannot be written, data that vanish, two trainings at once. After it, and
again after the command was run once more, everything in `fault_rounds.invariants` must hold. A
violation is printed with the words that repeat its round, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fault_rounds import copies, kills, machine, races
from fault_rounds.invariants import NAMES
from fault_rounds.rounds import Kind, Round, Skipped
from fault_rounds.world import World


def all_kinds() -> dict[str, Kind]:
    """Every kind of fault by its name."""
    return kills.kinds() | machine.kinds() | races.kinds() | copies.kinds()


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


def order(kinds: dict[str, Kind], n_rounds: int, only: int | None) -> list[tuple[int, str]]:
    """Every kind in turn."""
    names = list(kinds)
    found = [(number, names[number % len(names)]) for number in range(n_rounds)]
    return found if only is None else [pair for pair in found if pair[0] == only]


def table(rounds: list[dict[str, Any]], command: str) -> str:
    """The tally in Markdown, with the command that made it."""
    faults = sorted({row["kind"] for row in rounds})
    groups = [(name, [row for row in rounds if row["kind"] == name]) for name in faults]
    rows = [
        f"Made by `{command}`, in {sum(row['seconds'] for row in rounds) / 60:.0f} minutes.",
        "",
        "| fault | rounds | skipped | violated |",
        "|---|--:|--:|--:|",
    ]
    for name, own in [*groups, ("**all**", rounds)]:
        skipped = sum(row["skipped"] is not None for row in own)
        rows.append(f"| {name} | {len(own)} | {skipped} | {_violated(own)} |")
    rows += ["", "| invariant | checks | violated |", "|---|--:|--:|"]
    rows += [f"| {name} | {checks} | {bad} |" for name, checks, bad in _checked(rounds)]
    return "\n".join(rows) + "\n"


def _violated(rounds: list[dict[str, Any]]) -> int:
    return sum(bool(row["violations"]) for row in rounds)


def _checked(rounds: list[dict[str, Any]]) -> Iterator[tuple[str, int, int]]:
    """Every invariant, how often it was looked at, and how often it did not hold."""
    for name in NAMES:
        checks = sum(row["checked"].get(name, 0) for row in rounds)
        yield name, checks, sum(v.startswith(f"{name}: ") for r in rounds for v in r["violations"])


def tally(rounds: list[dict[str, Any]]) -> str:
    """A row a kind, and a row an invariant."""
    rows = [f"{'fault':34}{'rounds':>7}{'skipped':>8}{'violated':>9}  what happened"]
    for kind in sorted({row["kind"] for row in rounds}):
        own = [row for row in rounds if row["kind"] == kind]
        seen = Counter(words.partition(" (")[0] for row in own for words in row["seen"])
        rows.append(
            f"{kind:34}{len(own):>7}{sum(r['skipped'] is not None for r in own):>8}"
            f"{_violated(own):>9}  " + ", ".join(f"{n} {words}" for words, n in seen.most_common())
        )
    rows.append(
        f"{'all':34}{len(rounds):>7}{sum(r['skipped'] is not None for r in rounds):>8}"
        f"{_violated(rounds):>9}"
    )
    rows.append(f"\n{'invariant':34}{'checks':>7}{'violated':>9}")
    rows += [f"{name:34}{checks:>7}{bad:>9}" for name, checks, bad in _checked(rounds)]
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=110)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file of all rounds")
    parser.add_argument("--table", type=Path, help="Markdown file of the tally")
    parser.add_argument("--kinds", nargs="+", help="words of the kinds' names")
    parser.add_argument("--only", type=int, help="this round alone, to repeat it")
    parser.add_argument("--keep", type=Path, help="empty folder to work in, which stays")
    given = parser.parse_args()
    kinds = {
        name: kind
        for name, kind in all_kinds().items()
        if given.kinds is None or any(word in name for word in given.kinds)
    }
    if not kinds:
        raise SystemExit(f"--kinds must be words of: {', '.join(all_kinds())}")
    import torch
    from rich.console import Console
    from rich.progress import Progress

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rounds: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="dpgen-faults-") as temporary:
        world = World(Path(given.keep or temporary).resolve())
        todo = order(kinds, given.rounds, given.only)
        # Not refreshed by a thread: this process forks.
        with Progress(console=Console(stderr=True), auto_refresh=False) as bar:
            task = bar.add_task("rounds", total=len(todo))
            for number, name in todo:
                bar.update(task, description=f"{number} {name}", refresh=True)
                row = do(world, name, kinds[name], given.seed, number)
                rounds.append(row)
                if given.out is not None:
                    given.out.write_text(json.dumps(rounds, indent=1) + "\n")
                for words in row["violations"]:
                    said = f"VIOLATED by {name}, --only {number}: {words}"
                    bar.console.print(said, markup=False, highlight=False, soft_wrap=True)
                bar.update(task, advance=1, refresh=True)
    print(tally(rounds))
    if given.table is not None:
        # Without the names of files, which are those of one machine.
        words = ["--rounds", given.rounds, "--seed", given.seed]
        words += [] if given.only is None else ["--only", given.only]
        words += ["--kinds", *given.kinds] if given.kinds else []
        command = shlex.join(["python", "scripts/faults.py", *map(str, words)])
        given.table.write_text(table(rounds, command))
    if any(row["violations"] for row in rounds):
        again = " ".join(sys.argv)
        print("repeat a round: " + again + " --only ROUND")
        raise SystemExit(1)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
