"""Interprets ledger lines: charges of stages, releases that were made, the limit in force.

The functions take lines that were read from disk before; `dpgen.privacy.ledger.privacy_ledger`
reads and writes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dp_accounting.dp_event import DpEvent

from dpgen.privacy.accounting.accountant import Budget, epsilon_of
from dpgen.privacy.accounting.events import compose, event_from_json, event_to_json, leaves
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.ledger.chain import LedgerError
from dpgen.storage.canonical import digest


@dataclass(frozen=True)
class Charge:
    """One stage of one run, as it is charged in the ledger."""

    label: str
    plan: str
    event: DpEvent

    def line(self, run: str) -> dict[str, Any]:
        """Returns the body of the charge's ledger line."""
        event = event_to_json(self.event)
        stage = {"label": self.label, "plan": self.plan, "event": event}
        return {"kind": "charge", "run": run, **stage}


def plan_hash(
    label: str, event: DpEvent, settings: dict[str, Any], max_records_per_unit: int = 1
) -> str:
    """Identifies a priced stage: its name, its event, every number that shapes what it computes,
    and how many records of one unit it is priced for.
    """
    plan: dict[str, Any] = {"label": label, "event": event_to_json(event), "settings": settings}
    # Left out where a unit is one record, as in ledgers that older versions wrote.
    if max_records_per_unit != 1:
        plan["max_records_per_unit"] = max_records_per_unit
    return digest(plan)


def relation_of(lines: Sequence[Mapping[str, Any]]) -> Relation:
    """Reads the relation of neighbouring data sets from the open line of a ledger: the only one
    under which its charges may be priced. Raises LedgerError when the line does not state it.
    """
    try:
        opened = lines[0]
        return Relation(opened["adjacency"], opened["facts"]["max_records_per_unit"])
    except (LookupError, TypeError, ValueError) as error:
        raise LedgerError(f"the open line of the ledger states no relation ({error})") from None


def has_unverified(lines: Sequence[Mapping[str, Any]]) -> bool:
    """Returns whether one of these lines is of a run whose privacy claim is not verified."""
    return any(line["kind"] == "unverified" for line in lines)


def n_runs(lines: Sequence[Mapping[str, Any]]) -> int:
    """Counts the runs, certified or not, that these lines belong to."""
    return len({line["run"] for line in lines if line["kind"] in ("charge", "unverified")})


def lines_of_run(lines: Sequence[dict[str, Any]], run: str) -> list[dict[str, Any]]:
    """Returns the open line, the limits that were set and the lines of one run: the copy that a run
    folder holds.
    """
    return [x for x in lines if x["kind"] in ("open", "limit") or x.get("run") == run]


def spent_of(
    lines: Sequence[dict[str, Any]],
    *,
    charged: Sequence[dict[str, Any]] | None = None,
    more: Sequence[Charge] = (),
) -> float:
    """Returns epsilon of all that these lines charge, at the delta of their limit; infinity if one
    of the runs is unverified.

    Args:
        charged: lines whose charges are priced instead of those of ``lines``, under the limit and
            relation of ``lines``.
        more: charges that are added.
    """
    charged = lines if charged is None else charged
    if has_unverified(charged):
        return math.inf
    event = compose([charged_event(charged), *(charge.event for charge in more)])
    return epsilon_of(event, limit_of(lines).delta, relation_of(lines))


def charged_event(lines: Sequence[Mapping[str, Any]]) -> DpEvent:
    """Composes all that these ledger lines charge. Raises LedgerError when one of the runs has no
    price.
    """
    if has_unverified(lines):
        raise LedgerError("a run whose privacy claim is not verified has no price")
    return compose(event_from_json(line["event"]) for line in lines if line["kind"] == "charge")


def executed_releases(lines: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Counts the releases that each stage made: the union of the spans that were noted."""
    spans: dict[str, list[tuple[int, int]]] = {}
    for line in lines:
        if line["kind"] == "executed":
            spans.setdefault(line["label"], []).append((line["start"], line["stop"]))
    counts: dict[str, int] = {}
    for label, noted in spans.items():
        reached, count = 0, 0
        for start, stop in sorted(noted):
            count += max(0, stop - max(start, reached))
            reached = max(reached, stop)
        counts[label] = count
    return counts


def releases_of(lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Counts the releases of each stage: how many were charged, how many were made."""
    charged: dict[str, int] = {}
    for line in lines:
        if line["kind"] == "charge":
            n = sum(leaf.steps for leaf in leaves(event_from_json(line["event"])))
            charged[line["label"]] = charged.get(line["label"], 0) + n
    executed = executed_releases(lines)
    labels = [*charged, *(label for label in executed if label not in charged)]
    return {k: {"charged": charged.get(k, 0), "executed": executed.get(k, 0)} for k in labels}


def limit_of(lines: Sequence[Mapping[str, Any]]) -> Budget:
    latest = [line["limit"] for line in lines if line["kind"] in ("open", "limit")][-1]
    return Budget(latest["epsilon"], latest["delta"])
