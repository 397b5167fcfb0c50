"""The check of a privacy statement: everything that can be computed again is, and compared.

Epsilon from the events, with the second accountant beside it, every file by its hash, every ledger
line by its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpgen.privacy.accounting import Budget, check_adjacency, epsilon_of, round_up, second_opinion
from dpgen.privacy.certificate import (
    CertificateError,
    intact,
    read_statement,
    sha256_file,
    tree_hash,
)
from dpgen.privacy.chain import parse_lines
from dpgen.privacy.charges import charged_event, executed_releases, plan_hash, releases_of
from dpgen.privacy.events import event_from_json, event_to_json
from dpgen.privacy.statement import accounting_of, declaration, sentence


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, and what was seen."""

    name: str
    passed: bool
    seen: str


def verify(folder: Path) -> list[Check]:
    """Every check of the statement in ``folder``; it holds when all passed.

    Integrity, not authenticity: a careful forger who rewrites statement, ledger and files
    consistently is not caught.
    """
    statement = read_statement(folder)
    try:
        return list(_checks(folder, statement))
    except CertificateError:
        raise
    except (ValueError, OSError) as error:
        raise CertificateError(f"{folder}: {error}") from None
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise CertificateError(f"{folder / 'privacy.json'} lacks or misplaces {error}") from None


def _checks(folder: Path, statement: dict[str, Any]) -> list[Check]:
    guarantee, accounting = statement["guarantee"], statement["accounting"]
    check_adjacency(guarantee["adjacency"])
    Budget(guarantee["epsilon"], guarantee["delta"]).check_records(statement["facts"]["n_records"])
    event = event_from_json(accounting["events"])
    exact = epsilon_of(event, guarantee["delta"], guarantee["adjacency"])
    epsilon = round_up(exact)
    checks = [
        Check(
            "epsilon from the events",
            epsilon == guarantee["epsilon"],
            f"stated {guarantee['epsilon']:g}, computed {epsilon:g} at delta = "
            f"{guarantee['delta']:g}",
        )
    ]
    other = second_opinion(event, guarantee["delta"], guarantee["adjacency"])
    if other is None:
        checks.append(
            Check(
                "second accountant",
                True,
                "Opacus has no theorem for this relation: not cross-checked",
            )
        )
    else:
        # A Renyi bound is never tighter than the loss distribution it bounds; a smaller one means
        # that one of the two is wrong.
        checks.append(
            Check(
                "second accountant",
                other >= exact * (1 - 1e-3),
                f"Opacus' Renyi bound is {other:.4g}",
            )
        )
    whole = intact(statement)
    checks.append(
        Check("statement", whole, "as written" if whole else "changed since it was written")
    )
    kind = statement["artifact"]["kind"]
    worded = sentence(kind, guarantee["epsilon"], guarantee["delta"], guarantee["adjacency"])
    checks.append(Check("wording", statement["statement"] == worded, worded))
    known = declaration(statement["facts"])
    checks.append(Check("declared beforehand", statement["declared"] == known, known))
    recomputed = accounting_of(event, guarantee["delta"], guarantee["adjacency"])["guarantee"]
    checks.append(
        Check("other forms of the guarantee", recomputed == guarantee, "mu and profile recomputed")
    )
    over = [label for label, n in statement["releases"].items() if n["executed"] > n["charged"]]
    checks.append(
        Check("executed at most what was charged", not over, ", ".join(over) or "every stage")
    )
    if kind == "synthetic_dataset":
        stated, found = statement["artifact"]["files"], tree_hash(folder)
        checks.append(
            Check(
                "files",
                found == stated,
                f"{found['count']} files, {stated['count']} stated; contents "
                + ("as stated" if found == stated else "or names differ"),
            )
        )
    else:
        checks += _file_checks(folder, statement["artifact"]["files"])
        lines = parse_lines(
            (folder / "ledger.jsonl").read_text(encoding="utf-8"), str(folder / "ledger.jsonl")
        )
        same = event_to_json(charged_event(lines)) == accounting["events"]
        same = same and lines[0]["adjacency"] == guarantee["adjacency"]
        same = same and lines[0]["facts"] == statement["facts"]
        seen = f"{len(lines)} lines, each with its own hash, charge these events"
        checks.append(Check("ledger lines", same, seen))
        stages = statement["mechanism"]["stages"]
        priced = {x["label"]: x for x in lines if x["kind"] == "charge"}
        same = set(priced) == set(stages) and all(
            x["plan"] == plan_hash(label, event_from_json(x["event"]), stages[label])
            for label, x in priced.items()
        )
        checks.append(
            Check("settings of the stages", same, "as charged" if same else "not as charged")
        )
        agree = releases_of(lines) == statement["releases"]
        noted = sum(executed_releases(lines).values())
        checks.append(Check("releases in the ledger", agree, f"{noted} releases noted"))
    return checks


def _file_checks(folder: Path, files: Mapping[str, str]) -> list[Check]:
    wrong = []
    for name, stated in files.items():
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            wrong.append(f"{name} lies outside")
        elif not path.is_file():
            wrong.append(f"{name} is missing")
        elif sha256_file(path) != stated:
            wrong.append(f"{name} was changed")
    known = {*files, "privacy.json"}
    present = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    wrong += [f"{name} is not covered" for name in sorted(present - known)]
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return [
        Check(
            "files",
            not wrong,
            "; ".join(wrong[:3]) + more if wrong else f"{len(files)} files as stated",
        )
    ]
