"""The statement of a set that was mixed from several: what was spent on all of them together.

Sets drawn from one run, or from transcriptions of it, cost as much as the run, once. Runs on one
data set compose. Runs on different data sets compose, too, because nothing shows that they share no
record. If the user declares that they share none, each record is in only one of them, and the
mixture costs as much as the costliest data set (parallel composition: theorem F7). That holds when
a record is added or removed; a record that is replaced may move from one data set to another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from dp_accounting.dp_event import DpEvent

from dpgen.privacy.accounting.events import compose, event_from_json, event_to_json
from dpgen.privacy.accounting.forms import profile_of
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.statements.certificate import SCHEMA
from dpgen.privacy.statements.proofs import Theorem, applying, theorems
from dpgen.privacy.statements.public_start import KEY
from dpgen.privacy.statements.statement import (
    ENFORCED,
    accounting_of,
    is_enforced,
    sentence,
    stated_relation,
)
from dpgen.privacy.statements.transcription import origin_of
from dpgen.storage.canonical import digest

Statement = Mapping[str, Any]

THEOREMS = {"composition": "F3", "maximum": "F7"}


@dataclass(frozen=True)
class Account:
    """The price of a mixture: what its sets spent together.

    Args:
        events: the events of data sets that share no record, by the names of the ledgers that each
            is charged to.
        delta: the smallest delta of the sets.
        relation: the neighbouring relation of all of them.
        enforced: whether the records of each person were counted in all of the data sets.
    """

    events: Mapping[tuple[str, ...], DpEvent]
    delta: float
    relation: Relation
    enforced: bool = False

    @property
    def rule(self) -> str:
        return "maximum" if len(self.events) > 1 else "composition"


def account_of(parts: Sequence[Statement], *, disjoint: bool) -> Account:
    """Adds up the account of these sets' statements. Raises ValueError if they cannot be mixed.

    Args:
        parts: statements, each of a set that was drawn from one run.
        disjoint: whether it is declared that no record, or person, is in two of the data sets.
    """
    relations = {stated_relation(part["guarantee"]) for part in parts}
    if len(relations) != 1:
        phrases = " and ".join(sorted(relation.phrase for relation in relations))
        raise ValueError(f"the sets must be stated for one relation, they are for {phrases}")
    (relation,) = relations
    if disjoint and relation.adjacency != "add_remove":
        raise ValueError(
            "--disjoint is possible under add_remove only: a record that is replaced may move from "
            f"one data set to another, and these sets are for {relation.phrase}. Drop --disjoint: "
            "the prices then add up"
        )
    runs: dict[str, tuple[str, DpEvent]] = {}
    for part in parts:
        if "mixture" in part:
            raise ValueError("a mixture is not mixed again: mix the sets that it was made of")
        if KEY in part:
            raise ValueError(
                "sets whose network learned from public images are not mixed, nor those of one "
                "that began with other weights: what either was learned from may be among the "
                "records of another set, which no price here covers"
            )
        (model,) = part["artifact"]["parents"]
        model = origin_of(part, model)
        told = part["data_set"]["name"], event_from_json(part["accounting"]["events"])
        if runs.setdefault(model, told) != told:
            raise ValueError(
                f"sets of one run must say the same of it, those of {model[:12]} differ in what "
                "it spent, or on which data set"
            )
    names = sorted({name for name, _ in runs.values()})
    groups = [(name,) for name in names] if disjoint else [tuple(names)]
    return Account(
        {group: compose(e for name, e in runs.values() if name in group) for group in groups},
        min(part["guarantee"]["delta"] for part in parts),
        relation,
        all(is_enforced(part["guarantee"]) for part in parts),
    )


def mixed(
    parts: Sequence[Statement],
    *,
    disjoint: bool,
    files: Mapping[str, Any],
    synthetic: Mapping[str, Any],
) -> dict[str, Any]:
    """Makes the statement of a mixture, which contains the full statements of its sets.

    Args:
        parts, disjoint: as for `account_of`.
        files: hash of the files of the mixture.
        synthetic: how it was made.
    """
    account = account_of(parts, disjoint=disjoint)
    statement = {
        "schema": SCHEMA,
        "artifact": {
            "kind": "synthetic_dataset",
            "files": dict(files),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "parents": [digest(part) for part in parts],
        },
        **_computed(account),
        "verified": "proven",
        "mechanism": {
            "id": "mixture",
            "theorems": [theorem.cited for theorem in applying_to(parts, account.rule)],
            "version": version("dpgen"),
        },
        "mixture": {
            "rule": account.rule,
            "disjoint": disjoint,
            "parts": [dict(part) for part in parts],
        },
        "declared": " ".join(dict.fromkeys(part["declared"] for part in parts)),
        "data_sets": list({part["data_set"]["name"]: part["data_set"] for part in parts}.values()),
        "synthetic_dataset": dict(synthetic),
    }
    return {**statement, "sha256": digest(statement)}


def applying_to(parts: Sequence[Statement], rule: str) -> list[Theorem]:
    """Returns the theorems that a mixture rests on: those of its sets, and that of its rule."""
    names = [theorem.name for part in parts for theorem in applying(part["mechanism"]["stages"])]
    return [theorems()[name] for name in dict.fromkeys((*names, THEOREMS[rule]))]


def _computed(account: Account) -> dict[str, Any]:
    """Returns sentence, guarantee and accounting of the costliest data set."""
    delta, relation = account.delta, account.relation
    priced = {k: accounting_of(e, delta, relation) for k, e in account.events.items()}
    each = [one["guarantee"] for one in priced.values()]
    epsilon = max(one["epsilon"] for one in each)
    curves = [profile_of(event, epsilon, relation) for event in account.events.values()]
    points = zip(*curves, strict=True)
    guarantee = {
        **each[0],
        "epsilon": epsilon,
        "mu_gdp": _worst(one["mu_gdp"] for one in each),
        "mu_delta_floor": max(one["mu_delta_floor"] for one in each),
        "profile": [[at[0][0], max(delta for _, delta in at)] for at in points],
        "group": {m: _worst(one["group"][m] for one in each) for m in each[0]["group"]},
    }
    if account.enforced:
        guarantee["unit_bound"] = ENFORCED
    said = sentence("synthetic_dataset", epsilon, delta, relation, enforced=account.enforced)
    if account.rule == "maximum":
        said += (
            f" These are {len(each)} data sets; that no {relation.unit} is in two of them is "
            "declared by whoever mixed the set."
        )
    accounting = {
        **next(iter(priced.values()))["accounting"],
        "data_sets": [
            {"names": list(names), "epsilon": priced[names]["guarantee"]["epsilon"],
             "events": event_to_json(event)}
            for names, event in account.events.items()
        ],
    }  # fmt: skip
    accounting["cross_check"] = {
        **accounting["cross_check"],
        "epsilon": _worst(one["accounting"]["cross_check"]["epsilon"] for one in priced.values()),
    }
    del accounting["events"]
    return {"statement": said, "guarantee": guarantee, "accounting": accounting}


def _worst(values: Any) -> Any:  # noqa: ANN401
    """Returns the largest of the numbers, as a statement writes them; None if one is not known."""
    found = list(values)
    if None in found:
        return None
    return "infinity" if "infinity" in found else max(found)
