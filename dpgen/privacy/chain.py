"""Lines chained by SHA-256, files replaced in one step and held alone: what a ledger is written
with.

An edited, reordered or dropped line breaks the chain. This is integrity, not authenticity: whoever
rewrites all of it is not caught.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dpgen.files import parse_json

SCHEMA = "dpgen-ledger/1"
GENESIS = "0" * 64
LEDGER_BYTES = 2**23  # of a ledger; a run writes some six thousand
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
LATER: dict[str, dict[str, type]] = {"asked": {"commitment": str}}  # absent in earlier ledgers


class LedgerError(ValueError):
    """The ledger on disk is not what this package wrote, or belongs to other data."""


def canonical(value: object) -> str:
    """The one JSON text of a value: what is hashed."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(value: object) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def chain(lines: Sequence[dict[str, Any]], previous: str) -> list[dict[str, Any]]:
    """Links new lines behind the line whose hash is ``previous``."""
    linked = []
    for line in lines:
        line = {**line, "prev": previous}
        previous = digest(line)
        linked.append({**line, "hash": previous})
    return linked


def parse_lines(text: str, source: str) -> list[dict[str, Any]]:
    """Reads ledger lines and checks each line's own hash; `check_chain`, that none is missing."""
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
    """Raises LedgerError for a line that is intact and yet none that a ledger writes: whoever
    forges a line can hash it, too.
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


def replace_durably(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Writes ``content`` to ``path`` in one step: after a crash the old or the new file is there,
    whole. What failed leaves nothing else behind; what was killed, a file that
    `sweep_partials` knows.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)  # not written through, should it be a link
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    try:
        with open(os.open(partial, flags, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):  # the first failure is the one to be told
            partial.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def sweep_partials(path: Path) -> None:
    """Deletes what killed writers of ``path`` left; a living one must be kept out by a lock."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        partial.unlink(missing_ok=True)


def still_named(path: Path, descriptor: int) -> bool:
    """Whether ``path`` is the file behind ``descriptor``: who held its lock before may have removed
    it between our opening and our lock.
    """
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def held_alone(path: Path, *, busy: str | None = None) -> Iterator[None]:
    """Keeps other processes out of ``path`` by a lock beside it, which ends with this one.

    Args:
        busy: what a ValueError says when somebody has it; ``None`` waits instead.
    """
    flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC
    lock = os.open(path.with_name(path.name + ".lock"), flags, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if busy is None else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(busy) from None
        yield
    finally:
        os.close(lock)
