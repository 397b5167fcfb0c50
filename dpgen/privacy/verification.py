"""The check of a privacy statement: everything that can be computed again is, and compared.

Epsilon from the events, with the second accountant beside it, every file by its hash, every ledger
line by its own. `dpgen.privacy.parentage` looks at what a set was drawn from, and
`dpgen.privacy.signature` at who says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dp_accounting.dp_event import DpEvent

from dpgen.files import read_bytes, read_text
from dpgen.privacy.accounting import ACCOUNTANT, Budget, epsilon_of, round_up, second_opinion
from dpgen.privacy.certificate import (
    CERTIFICATE,
    LARGEST_STATEMENT,
    SCHEMA,
    SIGNATURE,
    CertificateError,
    intact,
    read_statement,
    sha256_file,
    statement_bytes,
    tree_hash,
)
from dpgen.privacy.chain import LEDGER_BYTES, check_fields, digest, parse_lines
from dpgen.privacy.charges import (
    charged_event,
    executed_releases,
    plan_hash,
    relation_of,
    releases_of,
)
from dpgen.privacy.events import event_from_json, event_to_json
from dpgen.privacy.mixture import mixed
from dpgen.privacy.relation import Relation
from dpgen.privacy.statement import (
    accounting_of,
    declaration,
    sentence,
    stated_relation,
    tuning_of,
)

MOST_EVENTS = 1000
CHECKPOINT = "checkpoint"  # the folder of an unfinished run within its own
# Far out on a curve a delta has few digits that two machines agree on.
LOOSE, LAST_DIGIT = ("profile", "mu_gdp", "cross_check"), 0.01


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, and what was seen."""

    name: str
    passed: bool
    seen: str


def verify(folder: Path) -> list[Check]:
    """Every check of the statement in ``folder`` by itself; it holds when all passed.

    Integrity, not authenticity: a careful forger who rewrites statement, ledger and files
    consistently is not caught.
    """
    statement = read_statement(folder)
    with reading(folder):
        return list(_checks(folder, statement))


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Turns what fails on a statement that is none into CertificateError."""
    try:
        yield
    except CertificateError:
        raise
    except (ValueError, OSError, ArithmeticError) as error:
        raise CertificateError(f"{folder}: {error}") from None
    except (LookupError, TypeError, AttributeError) as error:
        raise CertificateError(f"{folder / CERTIFICATE} lacks or misplaces {error}") from None


def _checks(folder: Path, statement: dict[str, Any]) -> Iterator[Check]:
    text = read_bytes(folder / CERTIFICATE, LARGEST_STATEMENT)
    whole = intact(statement) and text == statement_bytes(statement)
    yield Check("statement", whole, "as written" if whole else "changed since it was written")
    if not whole:
        return  # what it says now is nobody's
    kind = statement["artifact"]["kind"]
    if kind == "model":
        yield from _priced_checks(statement)
        yield from _file_checks(folder, statement["artifact"]["files"])
        yield from _ledger_checks(folder / "ledger.jsonl", statement)
        return
    if kind != "synthetic_dataset":
        raise CertificateError(f"{folder} holds a {kind!r:.60}, which nobody can check")
    yield from _mixture_checks(statement) if "mixture" in statement else _priced_checks(statement)
    stated, found = statement["artifact"]["files"], tree_hash(folder)
    yield Check(
        "files",
        found == stated,
        f"{found['count']} files, {stated['count']} stated; contents "
        + ("as stated" if found == stated else "or names differ"),
    )


def _event(rows: Any) -> DpEvent:  # noqa: ANN401
    if isinstance(rows, list) and len(rows) > MOST_EVENTS:
        raise CertificateError(f"a statement has at most {MOST_EVENTS} events, got {len(rows)}")
    return event_from_json(rows)


def _priced_checks(statement: Mapping[str, Any]) -> Iterator[Check]:
    """What the statement of one run, or of a set drawn from it, says about privacy."""
    guarantee, accounting, facts = (statement[k] for k in ("guarantee", "accounting", "facts"))
    relation, delta = stated_relation(guarantee), guarantee["delta"]
    Budget(guarantee["epsilon"], delta).check_records(facts["n_records"])
    declared = Relation(facts["adjacency"], facts["max_records_per_unit"])
    yield Check("unit", declared == relation, f"{relation.unit}, {relation.phrase}")
    event = _event(accounting["events"])
    yield from _epsilon_checks(event, guarantee, relation)
    worded = sentence(statement["artifact"]["kind"], guarantee["epsilon"], delta, relation)
    yield Check("wording", statement["statement"] == worded, worded)
    known = declaration(facts)
    yield Check("declared beforehand", statement["declared"] == known, known)
    again = accounting_of(event, delta, relation)
    yield Check(
        "other forms of the guarantee",
        _agree(again["guarantee"], guarantee),
        "mu, profile and groups recomputed",
    )
    counted = _agree(_unversioned(again["accounting"]), _unversioned(accounting))
    counted = counted and statement["verified"] == "proven"
    yield Check("how it was counted", counted, ACCOUNTANT)
    told = tuning_of(statement["data_set"])
    yield Check("choice of settings", statement["tuning"] == told, told["statement"])
    over = [label for label, n in statement["releases"].items() if n["executed"] > n["charged"]]
    yield Check("executed at most what was charged", not over, ", ".join(over) or "every stage")


def _epsilon_checks(
    event: DpEvent, guarantee: Mapping[str, Any], relation: Relation
) -> Iterator[Check]:
    delta = guarantee["delta"]
    exact = epsilon_of(event, delta, relation)
    epsilon = round_up(exact)
    yield Check(
        "epsilon from the events",
        epsilon == guarantee["epsilon"],
        f"stated {guarantee['epsilon']:g}, computed {epsilon:g} at delta = {delta:g}",
    )
    other = second_opinion(event, delta, relation)
    if other is None:
        said = "Opacus has no theorem for this relation: not cross-checked"
        yield Check("second accountant", True, said)
        return
    # Neither a Renyi bound nor the classical one for groups is ever tighter than the loss
    # distribution; a smaller one means that one of the two is wrong.
    yield Check(
        "second accountant", other >= exact * (1 - 1e-3), f"Opacus' Renyi bound is {other:.4g}"
    )


def _agree(one: Any, other: Any, *, loose: bool = False) -> bool:  # noqa: ANN401
    """Equal; numbers that are loose, to their last digit."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            _agree(one[k], other[k], loose=loose or k in LOOSE) for k in one
        )
    if isinstance(one, list) and isinstance(other, list):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(_agree(x, y, loose=loose) for x, y in pairs)
    if loose and type(one) is type(other) is float:
        return math.isclose(one, other, rel_tol=LAST_DIGIT)
    return type(one) is type(other) and bool(one == other)


def _mixture_checks(statement: Mapping[str, Any]) -> Iterator[Check]:
    """The statements that a mixture holds, each by itself, and what follows from them together."""
    stated, parts = statement["mixture"], statement["mixture"]["parts"]
    for number, part in enumerate(parts, start=1):
        failed = [c.name for c in _priced_checks(part) if not c.passed]
        if not intact(part) or part["schema"] != SCHEMA:
            failed.insert(0, "statement")
        seen = f"failed: {', '.join(failed)}" if failed else part["statement"]
        yield Check(f"set {number} of the mixture", not failed, seen)
    same = statement["artifact"]["parents"] == [digest(part) for part in parts]
    yield Check("sets of the mixture", same, f"{len(parts)}, by the digests of their statements")
    again = mixed(parts, disjoint=stated["disjoint"], files={}, synthetic={})
    own = ("artifact", "synthetic_dataset", "sha256")
    left = {key: value for key, value in again.items() if key not in own}
    right = {key: value for key, value in statement.items() if key not in own}
    yield Check(
        "what they spent together",
        _agree(_unversioned(left), _unversioned(right))
        and again["guarantee"]["epsilon"] == statement["guarantee"]["epsilon"],
        f"{stated['rule']}: epsilon = {again['guarantee']['epsilon']:g} at delta = "
        f"{again['guarantee']['delta']:g}",
    )


def _unversioned(value: Any) -> Any:  # noqa: ANN401
    """Without the versions of what computed it."""
    if not isinstance(value, Mapping):
        return value
    return {key: _unversioned(held) for key, held in value.items() if key != "version"}


def _ledger_checks(path: Path, statement: Mapping[str, Any]) -> Iterator[Check]:
    """The copy of the run's own lines, against what the statement says of them."""
    lines = parse_lines(read_text(path, LEDGER_BYTES), str(path))
    check_fields(lines, str(path))
    rows = statement["accounting"]["events"]
    same = event_to_json(charged_event(lines)) == rows
    same = same and relation_of(lines) == stated_relation(statement["guarantee"])
    same = same and lines[0]["facts"] == statement["facts"]
    data_set = statement["data_set"]
    same = same and lines[0]["dataset"] == data_set["name"]
    same = same and lines[0]["limit"] == data_set["limit"]
    seen = f"{len(lines)} lines, each with its own hash, charge these events"
    yield Check("ledger lines", same, seen)
    stages = statement["mechanism"]["stages"]
    m = relation_of(lines).max_records_per_unit
    priced = {x["label"]: x for x in lines if x["kind"] == "charge"}
    same = set(priced) == set(stages) and all(
        x["plan"] == plan_hash(label, event_from_json(x["event"]), stages[label], m)
        for label, x in priced.items()
    )
    yield Check("settings of the stages", same, "as charged" if same else "not as charged")
    agree = releases_of(lines) == statement["releases"]
    noted = sum(executed_releases(lines).values())
    yield Check("releases in the ledger", agree, f"{noted} releases noted")


def _file_checks(folder: Path, files: Mapping[str, str]) -> Iterator[Check]:
    wrong = []
    for name, stated in files.items():
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            wrong.append(f"{name} lies outside")
        elif path.is_symlink():
            wrong.append(f"{name} is a link")
        elif not path.is_file():
            wrong.append(f"{name} is missing")
        elif sha256_file(path) != stated:
            wrong.append(f"{name} was changed")
    known = {*files, CERTIFICATE, SIGNATURE}
    # Links and pipes too: what they lead to is covered by nothing.
    entries = (p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir())
    present = {str(p.relative_to(folder)) for p in entries}
    uncovered = sorted(present - known)
    if uncovered and not wrong and all(Path(name).parts[0] == CHECKPOINT for name in uncovered):
        wrong.append(
            f"{CHECKPOINT}/ is not covered and may hold secrets: a training was stopped before it "
            "could delete it; run the same train command again, which does"
        )
    else:
        wrong += [f"{name} is not covered" for name in uncovered]
    rest = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    seen = "; ".join(wrong[:3]) + rest if wrong else f"{len(files)} files as stated"
    yield Check("files", not wrong, seen)
