"""Checks the copy of a run's ledger lines, by itself and against the statement.

The ledger of a data set is one chain of the lines of all its runs, so the copy of one run has gaps.
Without the ledger it can still be checked that no line is there twice, that no line comes before
the one that it was chained to, and, where the ledger is of this run alone, that none is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dpgen.privacy.accounting.events import event_from_json, event_to_json
from dpgen.privacy.ledger.chain import GENESIS, LEDGER_BYTES, check_fields, parse_lines
from dpgen.privacy.ledger.charges import (
    charged_event,
    executed_releases,
    limit_of,
    plan_hash,
    relation_of,
    releases_of,
)
from dpgen.privacy.statements.certificate import COPY, EARLIER
from dpgen.privacy.statements.recorded import leaf_of
from dpgen.privacy.statements.statement import stated_relation
from dpgen.privacy.verification.check import Check, agree
from dpgen.privacy.verification.lineage import lineage_check
from dpgen.privacy.verification.promise import PUBLIC
from dpgen.storage.files import read_text

Lines = Sequence[Mapping[str, Any]]


def read_copy(folder: Path) -> list[dict[str, Any]]:
    """Reads the lines of a run folder's copy, and checks each line's own hash and fields."""
    path = folder / COPY
    lines = parse_lines(read_text(path, LEDGER_BYTES), str(path))
    check_fields(lines, str(path))
    return lines


def copy_checks(lines: Lines, statement: Mapping[str, Any]) -> Iterator[Check]:
    """Compares what the copy says of the run with what the statement says."""
    old = statement["schema"] == EARLIER
    kinds = [line["kind"] for line in lines]
    runs = {line["run"] for line in lines if "run" in line}
    same = kinds[:1] == ["open"] and kinds.count("open") == len(runs) == 1
    same = same and "unverified" not in kinds
    yield Check("one run", same, "the open line first, then lines of one run")
    if not same:
        return
    yield _description_check(lines, statement)
    yield _limit_check(lines, statement["data_set"]["limit"], old=old)
    # Public data's ledger is of this run alone; that of private data holds lines of others, too.
    whole = statement["data_set"]["ledger"] in PUBLIC and not old
    yield _order_check(lines, whole=whole)
    yield _plan_check(lines, statement["mechanism"]["stages"])
    agreed = agree(releases_of(lines), statement["releases"])
    noted = sum(executed_releases(lines).values())
    yield Check("releases in the ledger", agreed, f"{noted} releases noted")
    yield lineage_check(lines, old=old)


def _description_check(lines: Lines, statement: Mapping[str, Any]) -> Check:
    """Checks the data set of the open line, and the charged events, against the statement."""
    opened = lines[0]
    same = event_to_json(charged_event(lines)) == statement["accounting"]["events"]
    same = same and relation_of(lines) == stated_relation(statement["guarantee"])
    same = same and opened["adjacency"] == opened["facts"]["adjacency"]
    same = same and agree(opened["facts"], statement["facts"])
    same = same and opened["dataset"] == statement["data_set"]["name"]
    seen = f"{len(lines)} lines, each with its own hash, charge these events"
    return Check("ledger lines", same, seen)


def _limit_check(lines: Lines, stated: Mapping[str, Any], *, old: bool) -> Check:
    """Checks that limits rise and keep their delta, and that the last is that of the statement."""
    limits = [line["limit"] for line in lines if line["kind"] in ("open", "limit")]
    rising = all(
        one["epsilon"] <= two["epsilon"] and one["delta"] == two["delta"]
        for one, two in zip(limits, limits[1:], strict=False)
    )
    last = limit_of(lines)
    if old and rising and stated["epsilon"] > last.epsilon and stated["delta"] == last.delta:
        said = f"raised since the ledger was opened, which no line of {EARLIER} shows"
        return Check("limit", None, said)
    same = rising and agree(limits[-1], stated)
    return Check("limit", same, f"epsilon = {last.epsilon:g} at delta = {last.delta:g}")


def _order_check(lines: Lines, *, whole: bool) -> Check:
    """Checks that the lines are of one chain and in its order; with ``whole``, without a gap."""
    place = {line["hash"]: number for number, line in enumerate(lines)}
    previous = [line["prev"] for line in lines]
    same = len(place) == len(set(previous)) == len(lines) and previous[0] == GENESIS
    same = same and all(
        place.get(prev, number - 1) == number - 1 for number, prev in enumerate(previous)
    )
    if whole:
        same = same and previous[1:] == [line["hash"] for line in lines[:-1]]
    seen = "one chain without a gap" if whole else "in the order of a chain that has more lines"
    return Check("chain of the lines", same, seen if same else "not the order of one chain")


def _plan_check(lines: Lines, stages: Mapping[str, Any]) -> Check:
    """Checks that every stage is charged once, at the price of its settings, and that every other
    line belongs to that charge.
    """
    m = relation_of(lines).max_records_per_unit
    charges = {line["label"]: line for line in lines if line["kind"] == "charge"}
    count = Counter(line["label"] for line in lines if line["kind"] == "charge")
    twice = {label for label, n in count.items() if n > 1}
    wrong = sorted(twice | (charges.keys() ^ stages.keys()))
    for label in charges.keys() & stages.keys():
        row, event = charges[label], leaf_of(stages[label]).event
        same = row["event"] == event_to_json(event)
        same = same and row["plan"] == plan_hash(
            label, event_from_json(row["event"]), stages[label], m
        )
        others = [line for line in lines if line.get("label") == label]
        if not same or any(line["plan"] != row["plan"] for line in others):
            wrong.append(label)
    strangers = {line["label"] for line in lines if "label" in line} - charges.keys()
    wrong += sorted(strangers)
    spans = [line for line in lines if line["kind"] == "executed"]
    wrong += [line["label"] for line in spans if not 0 <= line["start"] < line["stop"]]
    seen = f"not {', '.join(wrong):.200}" if wrong else "as charged"
    return Check("settings of the stages", not wrong, seen)
