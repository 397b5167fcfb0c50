"""Checks the statement of a mixture: the statements that it contains, and their joint account."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dpgen.privacy.accounting.accountant import ACCOUNTANT
from dpgen.privacy.statements import earlier
from dpgen.privacy.statements.certificate import EARLIER, SCHEMA, intact
from dpgen.privacy.statements.mixture import mixed
from dpgen.privacy.verification.check import Check, agree, unversioned
from dpgen.privacy.verification.promise import promise_checks
from dpgen.storage.canonical import digest


def mixture_checks(statement: Mapping[str, Any]) -> Iterator[Check]:
    """Checks every set's statement by itself, then the account of all of them together."""
    stated, parts = statement["mixture"], statement["mixture"]["parts"]
    for number, part in enumerate(parts, start=1):
        failed = [c.name for c in promise_checks(part) if c.failed]
        if not intact(part) or part["schema"] not in (SCHEMA, EARLIER):
            failed.insert(0, "statement")
        seen = f"failed: {', '.join(failed)}" if failed else part["statement"]
        yield Check(f"set {number} of the mixture", not failed, seen)
    same = statement["artifact"]["parents"] == [digest(part) for part in parts]
    yield Check("sets of the mixture", same, f"{len(parts)}, by the digests of their statements")
    again = mixed(parts, disjoint=stated["disjoint"], files={}, synthetic={})
    if statement["schema"] == EARLIER:
        again["guarantee"] = earlier.group_as_stated(again["guarantee"], statement["guarantee"])
        again["accounting"]["accountant"] = ACCOUNTANT
        again["mechanism"] = earlier.mixture_mechanism(again["mixture"]["rule"]) | {
            "version": again["mechanism"]["version"]
        }
    own = ("schema", "artifact", "synthetic_dataset", "sha256")
    left = {key: value for key, value in again.items() if key not in own}
    right = {key: value for key, value in statement.items() if key not in own}
    same = agree(unversioned(left), unversioned(right))
    yield Check(
        "what they spent together",
        same and again["guarantee"]["epsilon"] == statement["guarantee"]["epsilon"],
        f"{stated['rule']}: epsilon = {again['guarantee']['epsilon']:g} at delta = "
        f"{again['guarantee']['delta']:g}",
    )
