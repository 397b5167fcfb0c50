"""Defines the file format of a privacy statement, its seal and hashes, and reads one.

`dpgen.privacy.statements.statement` builds statements, `dpgen.privacy.verification.verify` computes
them again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dpgen.storage.canonical import canonical, digest
from dpgen.storage.files import read_json

SCHEMA, EARLIER = "dpgen-privacy/3", "dpgen-privacy/2"  # written, and read as well
CERTIFICATE, NOTICE, SIGNATURE = "privacy.json", "notice.json", "privacy.sig"
# Pages of a set that are made of its statement, and what its curator says for them: no part of what
# the statement covers, so that it stays as it is when they are written.
CARDS = ("README.md", "RELEASE.md", "release.yaml", "croissant.json", "release.toml")
COPY = "ledger.jsonl"  # of the run's own lines of the ledger, in its folder
SIGNATURE_BYTES = 64
LARGEST_STATEMENT = 1 << 20  # bytes; a real one has a few thousand


class CertificateError(ValueError):
    """A statement that does not hold: what it says is not what its own events and files give."""


def intact(statement: Mapping[str, Any]) -> bool:
    """Returns whether a statement is as it was sealed."""
    body = {key: value for key, value in statement.items() if key != "sha256"}
    return bool(digest(body) == statement["sha256"])


def statement_bytes(statement: Mapping[str, Any]) -> bytes:
    """The one text of a statement on disk: in any other one a byte was changed."""
    return (json.dumps(statement, indent=2, ensure_ascii=False) + "\n").encode()


def finite_or_word(value: Any) -> Any:  # noqa: ANN401
    """The value as JSON can hold it: the word "infinity" for a number that is not finite."""
    return "infinity" if isinstance(value, float) and not math.isfinite(value) else value


def now() -> str:
    """The date and time that a statement is made, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


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
        statement = read_json(path, LARGEST_STATEMENT)
    except ValueError as error:
        raise CertificateError(f"{path} is not JSON ({error})") from None
    if not isinstance(statement, dict):
        raise CertificateError(f"{path} holds no statement")
    schema = statement.get("schema")
    if schema not in (SCHEMA, EARLIER):
        raise CertificateError(
            f"{path} has schema {schema!r:.60}, this version reads {SCHEMA} and {EARLIER}: use the "
            "version of dpgen that wrote it"
        )
    return statement


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_hash(folder: Path, *, cards: bool = False) -> dict[str, Any]:
    """Returns one SHA-256 over the names and contents of all files of a synthetic set but its
    statement, the signature of that and the pages beside the images. Raises CertificateError at a
    link, which has no content of its own.

    Args:
        cards: whether files of the pages' names count, as they did before there were pages.
    """
    left_out = {CERTIFICATE, NOTICE, SIGNATURE} | (set() if cards else set(CARDS))
    total, count = hashlib.sha256(), 0
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise CertificateError(f"{path} is a link: a statement covers files only")
        if path.is_file() and name not in left_out:
            # As JSON: a name may hold what ends a line.
            total.update((canonical([name, sha256_file(path)]) + "\n").encode())
            count += 1
    return {"sha256": total.hexdigest(), "count": count}
