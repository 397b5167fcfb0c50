"""Checks the marks of a run in the ledger, which show that it has one line of descent.

Every begin of a run writes a ``lineage`` line that names the one before. Every stage writes one
``asked`` line before its first answer and one ``finished`` line after its last. Runs of earlier
versions have none of the three.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dpgen.privacy.verification.check import Check

KINDS = ("lineage", "asked", "finished")


def lineage_check(lines: Sequence[Mapping[str, Any]], *, old: bool) -> Check:
    """Checks that the marks of a finished run are complete and in order.

    Args:
        lines: lines of the run, in the order of the ledger.
        old: whether the run may be of a version without marks.
    """
    marks = [line for line in lines if line["kind"] == "lineage"]
    if old and not any(line["kind"] in KINDS for line in lines):
        return Check("one lineage", None, "no line of this version shows how often it was resumed")
    chained = [""] + [line["mark"] for line in marks]
    wrong = [] if marks else ["no begin"]
    if [line["previous"] for line in marks] != chained[:-1] or len(set(chained)) < len(chained):
        wrong.append("marks that are not one chain")
    places = {kind: _places(lines, kind) for kind in ("charge", "asked", "executed", "finished")}
    first = next((n for n, line in enumerate(lines) if line["kind"] == "lineage"), len(lines))
    for label, charged in places["charge"].items():
        asked, finished = (places[kind].get(label, []) for kind in ("asked", "finished"))
        executed = places["executed"].get(label, [len(lines)])
        order = [*charged[:1], first, *asked, *finished]
        # An overtaken process may note its answers late, but nothing is answered before it asked.
        if len(asked) != 1 or len(finished) != 1 or order != sorted(order):
            wrong.append(f"{label}: not asked once and then finished once")
        elif not asked[0] < executed[0] < finished[0]:
            wrong.append(f"{label}: executed outside of that")
    n_resumes = max(0, len(marks) - 1)
    seen = "; ".join(wrong)[:200] if wrong else f"begun once, resumed {n_resumes} times"
    return Check("one lineage", not wrong, seen)


def _places(lines: Sequence[Mapping[str, Any]], kind: str) -> dict[str, list[int]]:
    """Returns the positions of the lines of this kind, by label."""
    found: dict[str, list[int]] = {}
    for number, line in enumerate(lines):
        if line["kind"] == kind:
            found.setdefault(line["label"], []).append(number)
    return found
