"""The lines of a ledger, chained by SHA-256.

An edited, reordered or dropped line breaks the chain. This is integrity, not authenticity: a
forger who rewrites all of it is not caught.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dpgen.storage.canonical import canonical, digest
from dpgen.storage.files import parse_json

SCHEMA = "dpgen-ledger/1"
GENESIS = "0" * 64
LEDGER_BYTES = 2**23  # the most bytes of a ledger; a run writes some six thousand
FIELDS: dict[str, dict[str, type]] = {
    "open": {"dataset": str, "adjacency": str, "facts": dict, "limit": dict},
    "charge": {"run": str, "label": str, "plan": str, "event": list},
    "lineage": {"run": str, "mark": str, "previous": str},
    "asked": {"run": str, "label": str, "plan": str, "question": str},
    "executed": {"run": str, "label": str, "plan": str, "start": int, "stop": int},
    "finished": {"run": str, "label": str, "plan": str},
    "released": {"run": str, "files": dict},
    "unverified": {"run": str, "mechanism": str},
    "limit": {"limit": dict},
    "marked": {"key": str, "block": str, "declared": bool},
}
LATER: dict[str, dict[str, type]] = {"asked": {"commitment": str}}  # not in earlier ledgers


class LedgerError(ValueError):
    """The ledger on disk is not what this package wrote, or belongs to other data."""


def chain(lines: Sequence[dict[str, Any]], previous: str) -> list[dict[str, Any]]:
    """Links new lines behind the line whose hash is ``previous``."""
    linked = []
    for line in lines:
        line = {**line, "prev": previous}
        previous = digest(line)
        linked.append({**line, "hash": previous})
    return linked


def parse_lines(text: str, source: str) -> list[dict[str, Any]]:
    """Reads ledger lines and checks each line's own hash. That no line is missing is checked by
    `check_chain`.
    """
    lines = []
    # Not splitlines: a class name may hold a character that Python takes for the end of a line.
    rows = text.split("\n")
    if rows.pop():
        raise LedgerError(f"{source}: the last line is torn")
    for number, row in enumerate(rows, start=1):
        try:
            line = parse_json(row, source)
            body = {key: value for key, value in line.items() if key != "hash"}
            # Canonical text too: `LedgerFile.append` finds the end of the file by writing the
            # lines again.
            intact = line["hash"] == digest(body) and canonical(line) == row
            intact = intact and line["schema"] == SCHEMA
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise LedgerError(
                f"{source}, line {number}: not a ledger line ({type(error).__name__})"
            ) from None
        if not intact:
            raise LedgerError(
                f"{source}, line {number}: changed since it was written (its hash does not match)"
            )
        lines.append(line)
    return lines


def check_chain(lines: Sequence[dict[str, Any]], source: str) -> None:
    previous = GENESIS
    for number, line in enumerate(lines, start=1):
        if line["prev"] != previous:
            raise LedgerError(
                f"{source}, line {number}: a line before it is missing or was moved "
                "(the chain is broken)"
            )
        previous = line["hash"]


def check_fields(lines: Sequence[dict[str, Any]], source: str) -> None:
    """Raises LedgerError for a line with fields that no ledger writes, though its hash is valid: a
    forger can compute hashes, too.
    """
    for number, line in enumerate(lines, start=1):
        fields = FIELDS.get(str(line.get("kind")))
        if fields is None:
            raise LedgerError(f"{source}, line {number}: kind must be one of {', '.join(FIELDS)}")
        later = LATER.get(line["kind"], {})
        for name, kind in (fields | {n: k for n, k in later.items() if n in line}).items():
            if type(line.get(name)) is not kind:
                raise LedgerError(f"{source}, line {number}: {name} must be {kind.__name__}")
        limit = line.get("limit", {"epsilon": 1, "delta": 1})
        if any(type(limit.get(name)) not in (int, float) for name in ("epsilon", "delta")):
            raise LedgerError(f"{source}, line {number}: limit must hold epsilon and delta")
