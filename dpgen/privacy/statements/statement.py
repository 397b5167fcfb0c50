"""The privacy statement beside every model and every synthetic set, built from ledger lines.

`statement_of` takes from the ledger what was charged and what was released. `derived` computes from
it everything else in the statement, by the accountant of record at one delta, and checks compute it
again. A synthetic set inherits the statement of its model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from dp_accounting.dp_event import DpEvent

from dpgen.privacy.accounting.accountant import accountant_of, epsilon_of, round_up, second_opinion
from dpgen.privacy.accounting.events import event_to_json, leaves
from dpgen.privacy.accounting.forms import mu_of, profile_of, units_of
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.ledger.charges import charged_event, relation_of, releases_of
from dpgen.privacy.statements import given_teachers, randomised_labels
from dpgen.privacy.statements.certificate import SCHEMA, finite_or_word, now
from dpgen.privacy.statements.implementation import implementation_of
from dpgen.privacy.statements.proofs import applying
from dpgen.privacy.statements.public_start import COMPARED, KEY, has_images, start_told
from dpgen.privacy.statements.recorded import Settings, require_relation
from dpgen.privacy.statements.silos import silos_declared
from dpgen.privacy.statements.tuning import tuning_of
from dpgen.storage.canonical import digest

SECOND = "opacus Renyi"
SLOTS = "declared public, as read from the teachers' files, by whoever ran the transcription"
ENFORCED = "enforced"  # unit_bound of facts and of a guarantee; absent where the bound is declared


def sentence(
    kind: str, epsilon: float, delta: float, relation: Relation, *, enforced: bool = False
) -> str:
    """Puts the guarantee into one sentence, always with epsilon, delta, relation and unit. A second
    sentence says that the records of each person were counted, if they were.
    """
    # `:g` rounds to nearest, and a smaller delta would be a stronger claim.
    stated = round_up(delta, 6)
    m = relation.max_records_per_unit
    counted = (
        f" The records of each person were counted by unit id, and at most {m} were used: the "
        "bound is enforced."
    )
    what = f"{relation.phrase} (image and label) of the training data"
    if relation.is_of_teachers:
        what = f"{relation.phrase}, in slots of fixed number and names"
    return (
        f"This {kind.replace('_', ' ')} satisfies ({epsilon:g}, {stated:g})-differential "
        f"privacy in the central model, with respect to {what}."
    ) + (counted if enforced else "")


def is_enforced(facts: Mapping[str, Any]) -> bool:
    """Returns whether facts, or a guarantee, say that the records of each unit were counted. If
    they do not mention it, as in statements of older versions, the bound is declared.
    """
    bound = facts.get("unit_bound", ENFORCED)
    if bound != ENFORCED:
        raise ValueError(f"unit_bound must be {ENFORCED!r} or absent, got {bound!r:.40}")
    return "unit_bound" in facts


def declaration(facts: Mapping[str, Any]) -> str:
    """Puts into words which facts were known beforehand, so that no epsilon covers them, and who
    declared them.
    """
    origin = {
        "declared": "declared public, as read from the data's own headers, by whoever ran the "
        "training",
        "stated": "stated in a facts file by whoever ran the training",
        "named": "declared public by whoever ran the training, the classes by number or name and "
        "the rest as read from the data's own headers",
    }[facts["origin"]]
    if facts.get("adjacency") == "fixed_slots":
        return (
            f"The shape of the images, the number of teachers ({facts['n_records']}), their names "
            f"and the list of classes ({len(facts['class_names'])}) were {SLOTS}; they are "
            "published as they are and the guarantee does not cover them."
        )
    return (
        f"The shape of the images, the number of records ({facts['n_records']}) and the list of "
        f"classes ({len(facts['class_names'])}) were {origin}; they are published as they are and "
        "the guarantee does not cover them."
    ) + (
        " The number is of the records that were used, when those of each person had been counted."
        if is_enforced(facts)
        else ""
    )


def accounting_of(
    event: DpEvent, delta: float, relation: Relation
) -> dict[str, Any]:
    """Computes the part that `verify` computes again: the guarantee and its accounting."""
    epsilon = round_up(epsilon_of(event, delta, relation))
    other = second_opinion(event, delta, relation)
    mu, floor = mu_of(event, relation)
    m, sampled = relation.max_records_per_unit, any(leaf.rate < 1 for leaf in leaves(event))
    by = f"{SECOND}, classical bound for groups" if m > 1 and sampled else SECOND
    return {
        "guarantee": {
            "model": "central",
            "epsilon": epsilon,
            "delta": delta,
            "adjacency": relation.adjacency,
            "unit": relation.unit,
            "max_records_per_unit": m,
            "mu_gdp": finite_or_word(round_up(mu, 5)),
            "mu_delta_floor": floor,
            "profile": profile_of(event, epsilon, relation),
            "group": units_of(event, delta, relation),
            "covers": "all iterates of the private stages and all later sampling",
        },
        "accounting": {
            "accountant": accountant_of(event),
            "version": version("dp-accounting"),
            "rounding": "up",
            "events": event_to_json(event),
            "cross_check": {
                "accountant": by,
                "version": version("opacus"),
                "epsilon": None if other is None else finite_or_word(round_up(other)),
            },
        },
    }


@dataclass(frozen=True)
class Basis:
    """The facts that a statement is derived from.

    Args:
        stages: settings of each stage's mechanism that ran, by label.
        event: all that was charged, composed.
        delta: the delta at which epsilon is stated.
        relation: what neighbouring data sets differ by.
        facts: public facts of the records.
        data_set: the account of the data set's whole ledger.
        compared: whether the records were compared with public images.
    """

    stages: Mapping[str, Settings]
    event: DpEvent
    delta: float
    relation: Relation
    facts: Mapping[str, Any]
    data_set: Mapping[str, Any]
    compared: bool = False

    def __post_init__(self) -> None:
        require_relation(self.stages, self.relation)


def derived(kind: str, basis: Basis) -> dict[str, Any]:
    """Derives everything in the statement of a run, or of a set drawn from it, that follows from
    its basis.

    Args:
        kind: "model" or "synthetic_dataset".
    """
    computed = accounting_of(basis.event, basis.delta, basis.relation)
    epsilon, enforced = computed["guarantee"]["epsilon"], is_enforced(basis.facts)
    if enforced:
        computed["guarantee"]["unit_bound"] = ENFORCED
    return {
        "statement": sentence(kind, epsilon, basis.delta, basis.relation, enforced=enforced),
        "verified": "proven",
        "theorems": [theorem.cited for theorem in applying(basis.stages)],
        **computed,
        "declared": declaration(basis.facts) + silos_declared(basis.stages),
        "implementation": implementation_of(basis.stages, basis.relation, enforced=enforced),
        "data_access": _unpriced(basis),
        "tuning": tuning_of(basis.data_set, of_teachers=basis.relation.is_of_teachers),
    }


def statement_of(
    kind: str,
    *,
    lines: Sequence[Mapping[str, Any]],
    delta: float,
    mechanism: Mapping[str, Any],
    files: Mapping[str, str],
    data_set: Mapping[str, Any],
    public_start: Mapping[str, Any] | None = None,
    labels_randomised: bool = False,
    teachers: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Makes the privacy statement of a model, from the ledger lines of the run that made it.

    Args:
        kind: "model".
        lines: the run's own ledger lines, its open line first.
        delta: the delta at which epsilon is stated.
        mechanism: id and settings of each stage that ran.
        files: SHA-256 of every file that the statement covers.
        data_set: the account of the data set's whole ledger.
        public_start: what networks learned from before the private stages, or began with; None for
            nothing.
        labels_randomised: whether labels of made-up images were changed at random.
        teachers: what `dpgen.privacy.statements.given_teachers` tells of the teachers; None for a
            run that learned from records.
    """
    facts, stages = lines[0]["facts"], mechanism["stages"]
    event, compared = charged_event(lines), has_images({KEY: public_start or {}})
    basis = Basis(stages, event, delta, relation_of(lines), facts, data_set, compared)
    said = derived(kind, basis)
    statement = {
        "schema": SCHEMA,
        "artifact": {"kind": kind, "files": dict(files), "created": now(), "parents": []},
        "statement": said["statement"],
        "verified": said["verified"],
        "mechanism": {
            "id": mechanism["id"],
            "theorems": said["theorems"],
            "stages": stages,
            "version": version("dpgen"),
        },
        **{name: said[name] for name in ("guarantee", "accounting")},
        "releases": releases_of(lines),
        "facts": facts,
        **{name: said[name] for name in ("declared", "implementation", "data_access")},
        "data_set": dict(data_set),
        "tuning": said["tuning"],
    }
    if public_start is not None:
        statement[KEY] = start_told(public_start)
    if teachers is not None:
        statement[given_teachers.KEY] = dict(teachers)
    if labels_randomised:
        statement[randomised_labels.KEY] = randomised_labels.SENTENCE
    return {**statement, "sha256": digest(statement)}


def _unpriced(basis: Basis) -> list[dict[str, str | None]]:
    """Lists what the statement reveals of the records that no event pays for."""
    known, of_teachers = "shape, class names, number of records", basis.relation.is_of_teachers
    if of_teachers:
        known = "shape, class names, number and names of the teachers"
    origin = basis.facts["origin"]
    told: list[dict[str, str | None]] = [{"what": known, "how": origin, "event": None}]
    if "record_total_epsilon" in basis.data_set:
        shared = "what ledgers that share a record with this data set have spent"
        if of_teachers:
            shared = "what ledgers that share a teacher with this one have spent"
        told.append({"what": shared, "how": "keyed marks, compared exactly", "event": None})
    return [*told, dict(COMPARED)] if basis.compared else told


def inherited(
    parent: Mapping[str, Any], *, files: Mapping[str, Any], synthetic: Mapping[str, Any]
) -> dict[str, Any]:
    """Makes the statement of a synthetic set: its model's numbers, whatever the number of samples
    (post-processing).
    """
    guarantee = parent["guarantee"]
    own = ("artifact", "statement", "sha256")
    statement = {
        **{key: value for key, value in parent.items() if key not in own},
        "artifact": {
            "kind": "synthetic_dataset",
            "files": dict(files),
            "created": now(),
            "parents": [digest(parent)],
        },
        "statement": sentence(
            "synthetic_dataset",
            guarantee["epsilon"],
            guarantee["delta"],
            stated_relation(guarantee),
            enforced=is_enforced(guarantee),
        ),
        "synthetic_dataset": dict(synthetic),
    }
    return {**statement, "sha256": digest(statement)}


def stated_relation(guarantee: Mapping[str, Any]) -> Relation:
    """Reads the neighbouring relation from a statement's guarantee. Raises ValueError if it states
    none.
    """
    return Relation(guarantee["adjacency"], guarantee["max_records_per_unit"])
