"""Checks the statement of one run, or of a set drawn from it: derives it again and compares.

Events are rebuilt from the settings of the stages, priced again by both accountants, and every
sentence and number that follows from them is made again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dp_accounting.dp_event import DpEvent

from dpgen.privacy.accounting.accountant import (
    Budget,
    accountant_of,
    epsilon_of,
    round_up,
    second_opinion,
)
from dpgen.privacy.accounting.events import compose, event_to_json
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.statements import earlier, given_teachers, randomised_labels, transcription
from dpgen.privacy.statements.certificate import EARLIER, CertificateError
from dpgen.privacy.statements.public_start import KEY, data_sets_of, has_images, start_told
from dpgen.privacy.statements.recorded import leaf_of, n_records_of
from dpgen.privacy.statements.statement import Basis, derived, is_enforced, stated_relation
from dpgen.privacy.statements.tuning import INSTALLATION
from dpgen.privacy.verification.check import Check, agree, unversioned

MOST_STAGES = 1000
PUBLIC = (
    "run folder (public data)",
    "run folder (declared public data by whoever ran the training)",
)
SHARED = "record_total_epsilon"  # stated for private data whose records are marked
KEYS = {
    "schema", "artifact", "statement", "verified", "mechanism", "guarantee", "accounting",
    "releases", "facts", "declared", "implementation", "data_access", "data_set", "tuning",
    "sha256",
}  # fmt: skip
PARTS = {
    "artifact": {"kind", "files", "created", "parents"},
    "mechanism": {"id", "theorems", "stages", "version"},
    "data_set": {"name", "ledger", "runs", "total_epsilon", "limit"},
}


def basis_of(statement: Mapping[str, Any]) -> Basis:
    """Reads the basis of a statement; events come from the settings of its stages.

    Raises ValueError or CertificateError for content that no run's statement has.
    """
    stages, facts = statement["mechanism"]["stages"], statement["facts"]
    if not isinstance(stages, dict) or not 1 <= len(stages) <= MOST_STAGES:
        raise CertificateError(f"a statement has 1 to {MOST_STAGES} stages")
    guarantee = statement["guarantee"]
    return Basis(
        stages,
        compose(leaf_of(settings).event for settings in stages.values()),
        guarantee["delta"],
        stated_relation(guarantee),
        facts,
        statement["data_set"],
        has_images(statement),
    )


def promise_checks(statement: Mapping[str, Any]) -> Iterator[Check]:
    """Checks what a statement says about privacy against its own basis."""
    basis, guarantee, facts = basis_of(statement), statement["guarantee"], statement["facts"]
    Budget(guarantee["epsilon"], basis.delta).check_records(facts["n_records"])
    yield _form_check(statement)
    declared = Relation(facts["adjacency"], facts["max_records_per_unit"])
    old, kind = statement["schema"] == EARLIER, statement["artifact"]["kind"]
    same = declared == basis.relation and not (old and "unit_bound" in facts)
    bound = "enforced" if not old and is_enforced(facts) else "declared"
    counted = bound == "enforced" or declared.max_records_per_unit > 1
    phrase = f"{basis.relation.unit}, {basis.relation.phrase}{f'; {bound}' if counted else ''}"
    yield Check("unit", same, phrase)
    yield from _stage_checks(statement, basis)
    yield from _epsilon_checks(basis.event, guarantee, basis.relation, old=old)
    again = earlier.derived(kind, basis, guarantee) if old else derived(kind, basis)
    for name, key in (("wording", "statement"), ("declared beforehand", "declared")):
        yield Check(name, statement[key] == again[key], again[key])
    found = again["guarantee"]
    same = agree(earlier.group_as_stated(found, guarantee) if old else found, guarantee)
    yield Check("other forms of the guarantee", same, "mu, profile and groups recomputed")
    same = agree(unversioned(again["accounting"]), unversioned(statement["accounting"]))
    same = same and statement["verified"] == again["verified"]
    yield Check("how it was counted", same, accountant_of(basis.event))
    yield _theorem_check(statement["mechanism"], None if old else again["theorems"])
    if KEY in statement:
        start = start_told(statement[KEY])
        same = agree(start, statement[KEY])
        same = same and statement["data_set"]["name"] not in data_sets_of(start)
        yield Check("public start", same, start["statement"])
    if transcription.KEY in statement:
        held = statement[transcription.KEY]
        transcription.check_chain(held["chain"])
        mechanism, made_by = statement["mechanism"]["id"], str(held["version"])
        told = transcription.told(mechanism, held["chain"], made_by)
        yield Check("transcription", agree(told, held), told["statement"])
    yield from _teachers_checks(statement, basis)
    for words in randomised_labels.randomised_of(statement):
        same = words == randomised_labels.SENTENCE
        yield Check("randomised labels", same, "that the guarantee does not rest on them")
    same = agree(again["implementation"], statement["implementation"])
    same = same and agree(again["data_access"], statement["data_access"])
    yield Check("implementation", same, "as the mechanisms that ran are computed")
    tuning = again["tuning"]
    agreed = agree(tuning, statement["tuning"])
    yield Check("choice of settings", agreed, tuning["statement"])
    yield from _account_checks(statement, basis)


def _form_check(statement: Mapping[str, Any]) -> Check:
    """Checks that the statement has its fields and no others, so that all of it is checked."""
    wanted = set(KEYS)
    if statement["artifact"]["kind"] == "synthetic_dataset":
        wanted.add("synthetic_dataset")
    if statement["schema"] != EARLIER:
        known = {KEY, transcription.KEY, randomised_labels.KEY, given_teachers.KEY}
        wanted |= known & statement.keys()
    odd = sorted(wanted ^ statement.keys())
    for name, keys in PARTS.items():
        if statement["schema"] == EARLIER and name == "mechanism":
            keys = {*keys - {"theorems"}, "theorem"}
        if name == "data_set" and SHARED in statement[name]:
            keys = {*keys, SHARED}
        odd += [f"{name}.{key}" for key in sorted(keys ^ statement[name].keys())]
    seen = f"{', '.join(odd):.200} missing or not known" if odd else "the fields of a statement"
    return Check("form", not odd, seen)


def _teachers_checks(statement: Mapping[str, Any], basis: Basis) -> Iterator[Check]:
    """Checks that a statement for teachers, and no other, tells of them, and in these words."""
    held = statement.get(given_teachers.KEY)
    if held is None and not basis.relation.is_of_teachers:
        return
    if held is None or not basis.relation.is_of_teachers:
        yield Check("teachers", False, "told of where none is the unit, or not told of")
        return
    told = given_teachers.told(held["names"], held["images"])
    same = agree(told, held) and len(held["names"]) == basis.facts["n_records"]
    yield Check("teachers", same, told[given_teachers.SENTENCE])


def _stage_checks(statement: Mapping[str, Any], basis: Basis) -> Iterator[Check]:
    same = event_to_json(basis.event) == statement["accounting"]["events"]
    n_records = {n_records_of(settings) for settings in basis.stages.values()} - {None}
    same = same and n_records <= {basis.facts["n_records"]}
    seen = "as the settings of the stages give them" if same else "not what the stages give"
    yield Check("events from the stages", same, seen)
    steps = {label: leaf_of(settings).steps for label, settings in basis.stages.items()}
    ran = {label: {"charged": n, "executed": n} for label, n in steps.items()}
    wrong = sorted(
        {label for label in ran.keys() | statement["releases"].keys()
         if not agree(ran.get(label), statement["releases"].get(label))}
    )  # fmt: skip
    seen = f"not {', '.join(wrong):.200}" if wrong else f"{len(ran)} stages, as finished runs do"
    yield Check("executed exactly what was charged", not wrong, seen)


def _epsilon_checks(
    event: DpEvent, guarantee: Mapping[str, Any], relation: Relation, *, old: bool
) -> Iterator[Check]:
    delta = guarantee["delta"]
    exact = epsilon_of(event, delta, relation)
    epsilon = round_up(exact)
    yield Check(
        "epsilon from the events",
        epsilon == guarantee["epsilon"] or (old and earlier.is_price(guarantee["epsilon"], exact)),
        f"stated {guarantee['epsilon']:g}, computed {epsilon:g} at delta = {delta:g}",
    )
    other = second_opinion(event, delta, relation)
    if other is None:
        yield Check("second accountant", None, "Opacus has no theorem for this relation")
        return
    # Neither a Renyi bound nor the classical bound for groups is ever tighter than the loss
    # distribution; a smaller value means that one of the two is wrong.
    yield Check(
        "second accountant",
        other >= exact * (1 - 1e-3),
        f"Opacus' Renyi bound is {other:.4g}: a looser upper bound by another proof, which must "
        "not be the smaller one",
    )


def _theorem_check(mechanism: Mapping[str, Any], theorems: list[dict[str, str]] | None) -> Check:
    if theorems is None:
        known = earlier.knows_theorem(mechanism)
        return Check("theorems", known, f"named in words by {EARLIER}: {mechanism['theorem']:.200}")
    names = ", ".join(theorem["name"] for theorem in theorems)
    return Check(
        "theorems",
        agree(theorems, mechanism["theorems"]),
        f"{names}, by the mechanisms that ran: dpgen verify --explain prints them",
    )


def _account_checks(statement: Mapping[str, Any], basis: Basis) -> Iterator[Check]:
    """Checks the spending of the data set against that of this run alone."""
    account, own = statement["data_set"], statement["guarantee"]["epsilon"]
    runs, total, place = (account[key] for key in ("runs", "total_epsilon", "ledger"))
    limit = Budget(account["limit"]["epsilon"], account["limit"]["delta"])
    exact = epsilon_of(basis.event, limit.delta, basis.relation)
    wrong = []
    old = statement["schema"] == EARLIER
    alone = place in PUBLIC and not old  # the ledger is the run's own
    if type(runs) is not int or runs < 1 or (alone and runs != 1):
        wrong.append(f"{runs!r:.20} runs")
    if place not in (INSTALLATION, *PUBLIC):
        wrong.append(f"a ledger in {place!r:.60}")
    if type(total) is not float or total * earlier.SETTLED < exact:
        wrong.append(f"a total of {total!r:.20} with a run of {round_up(exact):g}")
    elif runs == 1 and total != round_up(exact) and not (old and earlier.is_price(total, exact)):
        wrong.append(f"a total of {total:g}, with one run of {round_up(exact):g}")
    elif total > round_up(limit.epsilon):
        wrong.append(f"a total of {total:g} above the limit, {limit.epsilon:g}")
    wrong += _shared_faults(account)
    seen = f"epsilon = {own:g} of {total!r:.20} in {runs!r:.20} runs, limit {limit.epsilon:g}"
    yield Check("account of the data set", not wrong, "; ".join(wrong) or seen)


def _shared_faults(account: Mapping[str, Any]) -> list[str]:
    """Lists what is wrong with the total of a record over all data sets that hold it."""
    if SHARED not in account:
        return []
    most, total = account[SHARED], account["total_epsilon"]
    if account["ledger"] in PUBLIC:
        return ["a total over data sets, of data that are public"]
    if most != "infinity" and (type(most) is not float or most * earlier.SETTLED < total):
        return [f"{most!r:.20} over all data sets, of which {total!r:.20} in this one"]
    return []
