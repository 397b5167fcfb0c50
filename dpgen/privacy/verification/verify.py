"""Checks a privacy statement: everything that can be computed again is computed and compared, and
values that are stated in two places must agree.

Epsilon is computed from the stages, by the second accountant too. Every sentence that follows is
made again, every file is checked by its hash, every ledger line by its hash and against the others.
`dpgen.privacy.verification.parentage` traces a set to the run that it was drawn from, and
`dpgen.privacy.verification.signature` checks who signed it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpgen.privacy.statements.certificate import (
    CARDS,
    CERTIFICATE,
    LARGEST_STATEMENT,
    CertificateError,
    intact,
    read_statement,
    statement_bytes,
    tree_hash,
)
from dpgen.privacy.statements.transcription import KEY
from dpgen.privacy.verification.check import Check
from dpgen.privacy.verification.configuration import configuration_checks
from dpgen.privacy.verification.ledger_copy import copy_checks, read_copy
from dpgen.privacy.verification.mixture_parts import mixture_checks
from dpgen.privacy.verification.promise import promise_checks
from dpgen.privacy.verification.run_files import file_check, released_check, signature_form_check
from dpgen.privacy.verification.transcription import transcription_checks
from dpgen.storage.files import read_bytes

__all__ = ["Check", "reading", "verify"]


def verify(folder: Path) -> list[Check]:
    """Makes every check of the statement in ``folder`` that needs no other folder. The statement
    holds when no check failed.

    This is integrity, not authenticity: a careful forger who rewrites statement, ledger and files
    consistently is not detected.

    Raises:
        CertificateError: there is no statement, or it cannot be read.
    """
    statement = read_statement(folder)
    with reading(folder):
        return list(_checks(folder, statement))


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Turns errors from a malformed statement into CertificateError."""
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
        return  # a changed statement is not checked further
    if (signed := signature_form_check(folder)) is not None:
        yield signed
    kind = statement["artifact"]["kind"]
    if kind == "model":
        yield from _run_checks(folder, statement)
    elif kind == "synthetic_dataset":
        yield from _set_checks(folder, statement)
    else:
        raise CertificateError(f"{folder} holds a {kind!r:.60}, which this version cannot check")


def _run_checks(folder: Path, statement: dict[str, Any]) -> Iterator[Check]:
    yield from promise_checks(statement)
    if KEY in statement:
        yield from transcription_checks(folder, statement)
        return
    parents = statement["artifact"]["parents"]
    yield Check("parents", parents == [], "none: a run")
    yield file_check(folder, statement["artifact"]["files"])
    lines = read_copy(folder)
    yield from copy_checks(lines, statement)
    yield released_check(lines, statement)
    yield from configuration_checks(folder, statement)


def _set_checks(folder: Path, statement: dict[str, Any]) -> Iterator[Check]:
    if "mixture" in statement:
        yield from mixture_checks(statement)
    else:
        yield from promise_checks(statement)
        n_parents = len(statement["artifact"]["parents"])
        yield Check("parents", n_parents == 1, f"{n_parents}: the run it was drawn from")
    stated, found = statement["artifact"]["files"], tree_hash(folder)
    if found != stated and any((folder / name).exists() for name in CARDS):
        found = tree_hash(folder, cards=True)  # a set of a version without pages
    yield Check(
        "files",
        found == stated,
        f"{found['count']} files, {stated['count']} stated; contents "
        + ("as stated" if found == stated else "or names differ"),
    )
