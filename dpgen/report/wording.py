"""The sentences of a report: what holds of its cells, and what is wrong with some of them."""

from __future__ import annotations

from collections.abc import Sized
from datetime import UTC, datetime

from dpgen.report.results import Outcome, Results

__all__ = ["broken", "facts", "failed", "guarantee", "limits", "name"]

RELATIONS = {
    "add_remove": "adding or removing one record",
    "replace_one": "replacing one record",
}


def facts(found: Results) -> str:
    """States data set and size of the benchmark, on one line."""
    data, words = found.data, []
    subject = str(data.get("name") or "data set")
    if isinstance(data.get("n_records"), int):
        subject += f", {data['n_records']:,} records"
    if data.get("shape"):
        subject += f" of {'x'.join(map(str, data['shape']))}".replace(" of 1x", " of ")
    words.append(subject)
    if len(data.get("class_names") or ()) > 1:
        words.append(f"{len(data['class_names'])} classes")
    words.append(
        f"{_counted(found.methods, 'method')} at {_counted(found.epsilons, 'epsilon')} with "
        f"{_counted(found.seeds, 'seed')}"
    )
    return "; ".join([*words, *([_moment(found.created)] if found.created else [])])


def _counted(things: Sized, name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _moment(written: str) -> str:
    """Formats a time for readers, in UTC; text that is not a time stays as it is."""
    try:
        moment = datetime.fromisoformat(written)
    except ValueError:
        return written
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if moment.tzinfo else written


def guarantee(found: Results) -> list[str]:
    """Says what holds of every certified cell, then where its epsilon comes from."""
    done = [o for o in found.outcomes.values() if o.done]
    certified = [o.privacy for o in done if o.verified and o.privacy is not None]
    if not certified:
        return ["No cell has a verified guarantee yet."]
    deltas = " or ".join(map(str, sorted({p["delta"] for p in certified})))
    relations = {str(p.get("adjacency")) for p in certified}
    relation = " or ".join(sorted(RELATIONS.get(r, r) for r in relations))
    said = [
        "Whatever anyone does with a cell's model or images, the presence of any one image-label "
        "record in its training data changes the probability of every outcome by at most a factor "
        f"of e^epsilon, except for a probability of delta = {deltas} ({relation}).",
        "Each epsilon was computed from the releases in the cell's own ledger, by an accountant "
        "that errs on the large side, and computed again from its certificate: "
        f"{len(certified)} of {len(done)} finished cells.",
    ]
    if len(certified) < len(done):
        said.append(
            f"Without a verified guarantee: {len(done) - len(certified)} of {len(done)} finished "
            "cells. No epsilon is certified for them."
        )
    return said


def limits(found: Results) -> list[str]:
    """Says what an epsilon does not cover, and how settings were chosen."""
    said = [
        "An epsilon is that of one cell alone; all cells of this report together spend more.",
        "Metrics compare with real images without noise; they were not charged and no epsilon "
        "covers them: this data set "
        + (
            "is public."
            if found.data.get("public") is True
            else "is not declared public, so this report is as private as the data, and for its "
            "owner's eyes."
        ),
    ]
    if len(found.seeds) == 1:
        said.append("One seed: nothing here says how much of a difference is chance.")
    selection = found.protocol.get("selection")
    return [*said, *([f"How settings were chosen: {selection}"] if selection else [])]


def failed(found: Results) -> list[Outcome]:
    return [o for o in found.outcomes.values() if not o.done]


def broken(found: Results) -> list[str]:
    return [
        f"{name(o)}: {', '.join(o.broken)} came out infinite or as no number and is left out of "
        "the mean"
        for o in found.outcomes.values()
        if o.done and o.broken
    ]


def name(outcome: Outcome) -> str:
    return f"{outcome.label}, epsilon {outcome.epsilon:g}, seed {outcome.seed}"
