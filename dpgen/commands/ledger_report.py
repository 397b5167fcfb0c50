"""Prints the data sets that an installation has charged, and their runs."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dpgen.commands.run_notes import RunNote, folders
from dpgen.data.identity import home, known_ledgers
from dpgen.images.images import PublicFacts
from dpgen.privacy.accounting.accountant import Budget, round_up
from dpgen.privacy.ledger.charges import has_unverified, n_runs, spent_of
from dpgen.privacy.ledger.known_ledgers import KnownLedger
from dpgen.privacy.ledger.marks import n_shared
from dpgen.privacy.ledger.privacy_ledger import PrivacyLedger

INDENT, WIDTH = "    ", 100
LEGEND = (
    "data set: a random name, the one that certificates state. ledger: its file, whose long name "
    "is a hash of the images, or teachers, under this installation's key. run: a random name, of "
    "one training."
)
NOT_KNOWN = "not known: it was moved or deleted, or not made by `dpgen train` here"


def ledger_table(path: Path | None, raised: float | None) -> str:
    """Formats for each data set: spent, limit, what is left, facts; how many images the
    installation would recognise, and which other data sets have some of them; where it lies; and
    of each of its runs the date, epsilon, stages and folder.
    """
    from dpgen.commands.cli import one_line

    if raised is not None:
        if path is None:
            raise ValueError("--raise needs --ledger FILE: which data set's limit?")
        ledger = PrivacyLedger(path)
        ledger.raise_limit(Budget(raised, ledger.limit.delta))
    known = known_ledgers()
    everyone = known.all()
    shown = everyone if path is None else [known.glance(path)]
    if not shown:
        return f"no data set has been charged here yet ({home() / 'ledgers'})"
    notes = folders()
    rows = [
        f"{'data set':18}{'spent':>8}{'limit':>8}{'left':>8}{'delta':>9}{'runs':>6}  records, shape"
    ]
    for one in shown:
        there = known.glance(one.path).dataset == one.dataset
        rows.append(_row(one.path) if there else f"{one.dataset:18}is not there: {one.path}")
        rows.append(f"{INDENT}{_marked(one, everyone)}")
        if there:
            lines = PrivacyLedger(one.path).lines()
            runs = _ids(lines)
            named = dict.fromkeys(notes[run].data for run in runs if run in notes)
            rows += [f"{INDENT}data {data}" for data in named]
            rows.append(f"{INDENT}ledger {one.path}")
            rows += [f"{INDENT}{told}" for run in runs for told in _run(lines, run, notes)]
    return "\n".join([*map(one_line, rows), "", *textwrap.wrap(LEGEND, WIDTH)])


def _row(path: Path) -> str:
    ledger = PrivacyLedger(path)
    lines, limit = ledger.lines(), ledger.limit
    facts, spent = PublicFacts.from_dict(ledger.facts), round_up(ledger.spent())
    left = math.floor(1000 * max(0.0, limit.epsilon - spent)) / 1000
    what = " teachers" if ledger.relation.is_of_teachers else ""
    return (
        f"{ledger.dataset:18}{spent:>8g}{limit.epsilon:>8g}{left:>8g}"
        f"{limit.delta:>9g}{n_runs(lines):>6}  "
        f"{facts.n_records}{what}, {'x'.join(map(str, facts.shape))}"
    )


def _marked(one: KnownLedger, everyone: Sequence[KnownLedger]) -> str:
    """Describes what is known about the records of a ledger."""
    if one.missing:
        return "marks of its records are lost: no run begins here before they are restored"
    if one.marks is None:
        return (
            "no marks of its records here: data that share some are not recognised before a run "
            "on this very data set, which may be refused, has made them"
        )
    marks = one.marks.all
    told = [f"{len(marks)} different {_noun(one.path)} marked"]
    for other in everyone:
        if other.marks is not None and other.dataset != one.dataset:
            shared = n_shared(marks, other.marks.all)
            if shared:
                told.append(f"{shared} of them also in {other.dataset}")
    return ", ".join(told)


def _noun(path: Path) -> str:
    """Returns what the records of a ledger are; of one that is not there, images."""
    of_teachers = path.exists() and PrivacyLedger(path).relation.is_of_teachers
    return "teachers" if of_teachers else "images"


def _ids(lines: list[dict[str, Any]]) -> list[str]:
    """Returns the runs of a ledger, in the order of their charges."""
    return list(dict.fromkeys(x["run"] for x in lines if x["kind"] in ("charge", "unverified")))


def _run(lines: list[dict[str, Any]], run: str, notes: Mapping[str, RunNote]) -> Iterator[str]:
    """Describes when a run was charged, for how much, how far it came, and where it lies."""
    own = [x for x in lines if x.get("run") == run]
    time = own[0].get("time")  # not checked in any kind of line: a forged one may hold anything
    told = time[:16].replace("T", " ") if isinstance(time, str) else "at no known time"
    when = f"run {run[:12]}, {told}"
    if has_unverified(own):
        yield f"{when}: no guarantee, priced at nothing that was ever proven"
    else:
        alone = round_up(spent_of(lines, charged=own))
        released = any(x["kind"] == "released" for x in own)
        begun = any(x["kind"] == "executed" for x in own)
        state = "finished" if released else "not finished" if begun else "charged, nothing run yet"
        yield f"{when}: epsilon = {alone:g} alone, {state}"
        stages = ", ".join(x["label"] for x in own if x["kind"] == "charge")
        yield f"{INDENT}stages {stages}"
    yield f"{INDENT}folder {notes[run].folder if run in notes else NOT_KNOWN}"
