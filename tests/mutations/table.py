"""The mutation table: bug, why it breaks the guarantee, which detector saw it and what it saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.mutations.bug import Bug
from tests.mutations.detectors import DETECTORS, NOTES, ROOMS

# By detector, what it saw; nothing where it saw nothing.
Row = Mapping[str, str]
LEFT_OUT = (
    (
        "Scaling by accumulation steps, a closure that computes gradients again",
        "a step answers once; no trainer and no closure stands around it.",
    ),
    (
        "Half precision gradients, loss scaling, steps skipped on infinity",
        "`Hardware` takes float32 or bfloat16 and has no scaler; clip, sum and noise are float64.",
    ),
    (
        "Too little noise on complex sums",
        "no sum is complex. The same factor is in: one-shot release clipped table by table.",
    ),
    (
        "Shards that are drawn, and that remember their coins",
        "every shard answers every query: there are no coins, and nothing is amplified.",
    ),
    (
        "Mixup, augmentation over a batch, attention over a batch",
        "a loss is a function of one record. What goes around that is in: records interact.",
    ),
    (
        "A fake batch as large as the Poisson batch",
        "no private stage makes fake batches.",
    ),
    (
        "Search over settings on the records",
        "each of its runs is charged. What goes around that is in: earlier runs do not count.",
    ),
    (
        "A backbone that has seen the records",
        "weights to begin with are refused where a ledger shows that, with tests of their own.",
    ),
    (
        "A validation loss in a log, a progress bar or an exception",
        "not a matter of mechanisms: what a run writes has tests of its own.",
    ),
)


def table(bugs: Sequence[Bug], rows: Mapping[str, Row]) -> str:
    """Markdown."""
    caught = sum(any(rows[bug.name].values()) for bug in bugs)
    lines = [
        "# Bugs that must be caught",
        "",
        "Each of these mistakes was put into the package on purpose, by the tests in "
        "`tests/mutations`, and everything that can see it was run. Written by "
        "`pytest tests/mutations -m slow --write-table`, which without `--write-table` fails when "
        "a run gives another table. CI puts every bug in, and fails when the first of the "
        "detectors that saw it sees it no more.",
        "",
        f"{caught} of {len(bugs)} bugs are caught; without a bug every detector is silent.",
        "",
        "| bug | why it breaks the guarantee | place | who saw it, and what |",
        "|---|---|---|---|",
    ]
    for bug in bugs:
        seen = "; ".join(f"**{d}**: {text}" for d, text in rows[bug.name].items() if text)
        lines.append(f"| {bug.name} | {bug.why} | `{bug.where}` | {seen or 'NOBODY'} |")
    names = list(DETECTORS)
    lines += [
        "",
        "## Who can see what",
        "",
        "X: saw it. A dot: looked and saw nothing. Empty: never runs the code that is changed, or "
        "puts something of its own in its place.",
        "",
        "| bug | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for bug in bugs:
        row, room = rows[bug.name], ROOMS[bug.room]
        marks = ["" if d not in room else "X" if row[d] else "." for d in names]
        lines.append(f"| {bug.name} | " + " | ".join(marks) + " |")
    lines += ["", "## The detectors", ""]
    lines += [f"* **{name}**: {note}" for name, note in NOTES.items()]
    lines += ["", "## Mistakes that cannot be made here", ""]
    lines += [f"* {name}: {why}" for name, why in LEFT_OUT]
    return "\n".join(lines) + "\n"


def seen_by(written: str, bug: str) -> list[str]:
    """Returns the names of the detectors that saw a bug when a table was written, in its order.

    Raises:
        LookupError: if the table has no such bug.
    """
    lines = written.split("## Who can see what")[-1].splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    names = rows[0][1:]
    for name, *marks in rows[2:]:
        if name == bug:
            return [detector for detector, mark in zip(names, marks, strict=True) if mark == "X"]
    raise LookupError(f"{bug!r} is not in the table: write it anew with --write-table")
