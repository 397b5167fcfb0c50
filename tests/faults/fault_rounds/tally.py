"""What became of many rounds: a row a kind of fault, and a row an invariant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from fault_rounds.invariants import NAMES


def tally(rounds: list[dict[str, Any]]) -> str:
    """The counts as columns of text, with what happened in the rounds of each kind."""
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


def table(rounds: list[dict[str, Any]], command: str) -> str:
    """The counts in Markdown, with the command that made them."""
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
