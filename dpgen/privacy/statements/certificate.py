"""Defines the file format of a privacy statement, its seal and its hashes, and reads one.

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
from typing import Any, Final

from dpgen.storage.canonical import canonical, digest
from dpgen.storage.files import read_json

SCHEMA, EARLIER = "dpgen-privacy/3", "dpgen-privacy/2"  # the second is only read
CERTIFICATE, NOTICE, SIGNATURE = "privacy.json", "notice.json", "privacy.sig"
PART: Final = "dpgen-part.json"  # in a part of a set, which has no statement of its own
# Pages of a set that are made from its statement, and the file with its curator's words. The
# statement does not cover them, so writing them does not change it.
CARDS = ("README.md", "RELEASE.md", "release.yaml", "croissant.json", "release.toml")
COPY = "ledger.jsonl"  # in a run folder: the copy of the ledger's lines of this run
SIGNATURE_BYTES = 64
LARGEST_STATEMENT = 1 << 20  # bytes; a genuine one has a few thousand


class CertificateError(ValueError):
    """A statement that does not hold: its content does not follow from its own events and files."""


def intact(statement: Mapping[str, Any]) -> bool:
    """Returns whether a statement is unchanged since it was sealed."""
    body = {key: value for key, value in statement.items() if key != "sha256"}
    return bool(digest(body) == statement["sha256"])


def statement_bytes(statement: Mapping[str, Any]) -> bytes:
    """Returns the text of a statement on disk. It is unique: any other text was changed."""
    return (json.dumps(statement, indent=2, ensure_ascii=False) + "\n").encode()


def finite_or_word(value: Any) -> Any:  # noqa: ANN401
    """Returns the value, or the word "infinity" for a number that is not finite, as for JSON."""
    return "infinity" if isinstance(value, float) and not math.isfinite(value) else value


def now() -> str:
    """Returns the present date and time, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_statement(folder: Path) -> dict[str, Any]:
    """Reads the ``privacy.json`` of a run or a synthetic set. Raises CertificateError with the
    reason when there is none, or when it is not a statement of a known schema.
    """
    notice = folder / "notice.json"
    if notice.exists():
        raise CertificateError(
            f"{folder} carries a notice, not a certificate: "
            f"its privacy claim is not verified ({notice})"
        )
    path = folder / "privacy.json"
    if (folder / PART).exists() and not path.exists():
        raise CertificateError(whole_needed(folder))
    if not folder.exists():
        raise CertificateError(
            f"{folder} does not exist: name the folder of a finished run or of a synthetic set"
        )
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


def whole_needed(folder: Path) -> str:
    """Says what to do where a set is needed and ``folder`` is a part of one."""
    return (
        f"{folder} is a part of a synthetic set, and has no statement of its own: make the set of "
        "all its parts with dpgen join"
    )


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_hash(folder: Path, *, cards: bool = False) -> dict[str, Any]:
    """Returns one SHA-256 over the names and contents of all files of a synthetic set except its
    statement, the statement's signature and the pages beside the images. Raises CertificateError
    for a link, which has no content of its own.

    Args:
        cards: whether to include files with the names of pages, as versions without pages did.
    """
    left_out = {CERTIFICATE, NOTICE, SIGNATURE} | (set() if cards else set(CARDS))
    total, count = hashlib.sha256(), 0
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise CertificateError(f"{path} is a link: a statement covers files only")
        if path.is_file() and name not in left_out:
            # As JSON, because a name may contain a line break.
            total.update((canonical([name, sha256_file(path)]) + "\n").encode())
            count += 1
    return {"sha256": total.hexdigest(), "count": count}
