"""The privacy statement beside every model and every synthetic set, and the check of it.

`statement_of` derives everything it says about privacy from ledger lines: the events that were
charged, priced by the accountant of record at one delta. `verify` computes it all again from the
file and compares: epsilon from the events, with the second accountant beside it, every file by its
hash, every ledger line by its own.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dp_accounting.dp_event import DpEvent

from dpgen.privacy.accounting import (
    ACCOUNTANT,
    Adjacency,
    Budget,
    check_adjacency,
    delta_of,
    epsilon_of,
    round_up,
    second_opinion,
)
from dpgen.privacy.chain import digest, parse_lines
from dpgen.privacy.events import event_from_json, event_to_json, leaves
from dpgen.privacy.ledger import charged_event, plan_hash

SCHEMA = "dpgen-privacy/1"
LARGEST_STATEMENT = 1 << 20  # bytes; a real one has a few thousand
CAVEATS = (
    "proof in real arithmetic: floating-point side channels are not covered",
    "timing and memory side channels are not covered",
)
PHRASES = {
    "add_remove": "adding or removing one record",
    "replace_one": "replacing one record",
}


class CertificateError(ValueError):
    """A statement that does not hold: what it says is not what its own events and files give."""


def sentence(kind: str, epsilon: float, delta: float, adjacency: Adjacency) -> str:
    """The guarantee in one sentence; never an epsilon without delta, relation and unit."""
    # `:g` rounds to nearest, and a smaller delta would be a stronger claim.
    stated = round_up(delta, 6)
    return (
        f"This {kind.replace('_', ' ')} satisfies ({epsilon:g}, {stated:g})-differential "
        f"privacy in the central model, "
        f"with respect to {PHRASES[adjacency]} (image and label) of the training data."
    )


def executed_releases(lines: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Releases made per stage: the union of the spans that were noted."""
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
    """Releases per stage: how many were charged, how many were made."""
    charged: dict[str, int] = {}
    for line in lines:
        if line["kind"] == "charge":
            n = sum(leaf.steps for leaf in leaves(event_from_json(line["event"])))
            charged[line["label"]] = charged.get(line["label"], 0) + n
    executed = executed_releases(lines)
    labels = [*charged, *(label for label in executed if label not in charged)]
    return {k: {"charged": charged.get(k, 0), "executed": executed.get(k, 0)} for k in labels}


def accounting_of(event: DpEvent, delta: float, adjacency: Adjacency) -> dict[str, Any]:
    """What `verify` can compute again: guarantee and how it was counted."""
    epsilon = round_up(epsilon_of(event, delta, adjacency))
    other = second_opinion(event, delta, adjacency)
    sampled = any(leaf.rate < 1 for leaf in leaves(event))
    mu = None if sampled else math.sqrt(sum(x.steps / x.noise_multiplier**2 for x in leaves(event)))
    if mu is not None and adjacency == "replace_one":
        mu *= 2
    return {
        "guarantee": {
            "model": "central",
            "epsilon": epsilon,
            "delta": delta,
            "adjacency": adjacency,
            "unit": "record",
            "mu_gdp": None if mu is None else round_up(mu, 5),
            "profile": [
                [e, round_up(delta_of(event, e, adjacency))] for e in (epsilon / 4, epsilon / 2)
            ],
            "covers": "all iterates of the private stages and all later sampling",
        },
        "accounting": {
            "accountant": ACCOUNTANT,
            "version": version("dp-accounting"),
            "rounding": "up",
            "events": event_to_json(event),
            "cross_check": {
                "accountant": "opacus Renyi",
                "version": version("opacus"),
                "epsilon": None if other is None else round_up(other),
            },
        },
    }


def statement_of(
    kind: str,
    *,
    lines: Sequence[Mapping[str, Any]],
    delta: float,
    mechanism: Mapping[str, Any],
    files: Mapping[str, str],
    data_set: Mapping[str, Any],
) -> dict[str, Any]:
    """The privacy statement of a model, from the ledger lines of the run that made it.

    Args:
        kind: "model".
        lines: the run's own ledger lines, its open line first.
        delta: at which epsilon is stated.
        mechanism: id, theorem, settings of each stage: what ran.
        files: SHA-256 of every file that the statement covers.
        data_set: what the data set's whole ledger says.
    """
    opened = lines[0]
    adjacency: Adjacency = opened["adjacency"]
    computed = accounting_of(charged_event(lines), delta, adjacency)
    statement = {
        "schema": SCHEMA,
        "artifact": {"kind": kind, "files": dict(files), "created": _now(), "parents": []},
        "statement": sentence(kind, computed["guarantee"]["epsilon"], delta, adjacency),
        "verified": "proven",
        "mechanism": {**mechanism, "version": version("dpgen")},
        **computed,
        "releases": releases_of(lines),
        "facts": opened["facts"],
        "implementation": {
            "sampling": "Poisson, secret coins",
            "per_record": "vmap(grad), clipped over all parameters together, float64 sums",
            "nonfinite": "contributes zero",
            "noise": "float64 Box-Muller from a SHAKE-256 stream, key drawn by the operating "
            "system per stage",
            "caveats": list(CAVEATS),
        },
        "data_access": [
            {
                "what": "shape, class names, number of records",
                "how": opened["facts"]["origin"],
                "event": None,
            }
        ],
        "data_set": dict(data_set),
    }
    return {**statement, "sha256": digest(statement)}


def inherited(
    parent: Mapping[str, Any], *, files: Mapping[str, Any], synthetic: Mapping[str, Any]
) -> dict[str, Any]:
    """The statement of a synthetic set: its model's numbers, whatever the number of samples
    (post-processing).
    """
    guarantee = parent["guarantee"]
    own = ("artifact", "statement", "sha256")
    statement = {
        **{key: value for key, value in parent.items() if key not in own},
        "artifact": {
            "kind": "synthetic_dataset",
            "files": dict(files),
            "created": _now(),
            "parents": [digest(parent)],
        },
        "statement": sentence(
            "synthetic_dataset", guarantee["epsilon"], guarantee["delta"], guarantee["adjacency"]
        ),
        "synthetic_dataset": dict(synthetic),
    }
    return {**statement, "sha256": digest(statement)}


def intact(statement: Mapping[str, Any]) -> bool:
    """Whether a statement is as it was sealed."""
    body = {key: value for key, value in statement.items() if key != "sha256"}
    return digest(body) == statement["sha256"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, and what was seen."""

    name: str
    passed: bool
    seen: str


def read_statement(folder: Path) -> dict[str, Any]:
    """The ``privacy.json`` of a run or a synthetic set. Raises CertificateError with the reason
    when there is none to trust.
    """
    notice = folder / "notice.json"
    if notice.exists():
        raise CertificateError(
            f"{folder} carries a notice, not a certificate: "
            f"its privacy claim is not verified ({notice})"
        )
    path = folder / "privacy.json"
    if not folder.is_dir() or not path.exists():
        raise CertificateError(
            f"{folder} is neither a finished run nor a synthetic set: it has no privacy.json"
        )
    if path.stat().st_size > LARGEST_STATEMENT:
        raise CertificateError(
            f"{path} has {path.stat().st_size} bytes, a statement has at most {LARGEST_STATEMENT}"
        )
    try:
        statement = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CertificateError(f"{path} is not JSON ({error})") from None
    if not isinstance(statement, dict):
        raise CertificateError(f"{path} holds no statement")
    schema = statement.get("schema")
    if schema != SCHEMA:
        raise CertificateError(f"{path} has schema {schema!r:.60}, this version reads {SCHEMA}")
    return statement


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


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_hash(folder: Path) -> dict[str, Any]:
    """One SHA-256 over the names and contents of all files of a synthetic set but its statement."""
    total, count = hashlib.sha256(), 0
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name != "privacy.json":
            total.update(f"{sha256_file(path)}  {name}\n".encode())
            count += 1
    return {"sha256": total.hexdigest(), "count": count}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
