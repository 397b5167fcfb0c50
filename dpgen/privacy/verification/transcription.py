"""Checks a transcribed run against the run that was trained, of which it keeps statement,
configuration and ledger lines; and against the runs that it goes back to, where they lie beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dpgen.privacy.statements.certificate import CERTIFICATE, CertificateError, read_statement
from dpgen.privacy.statements.transcription import (
    KEY,
    METHOD,
    OWN,
    PARENT,
    PARENT_CONFIG,
    check_chain,
    check_trained,
    read_trained,
)
from dpgen.privacy.verification.check import Check, agree
from dpgen.privacy.verification.configuration import FACTS_BYTES, SCHEMA, configuration_checks
from dpgen.privacy.verification.ledger_copy import copy_checks, read_copy
from dpgen.privacy.verification.run_files import file_check, released_check
from dpgen.storage.canonical import digest
from dpgen.storage.files import read_json

KEYS = {"schema", "method", "version", "budget", "seed", "settings", "parent"}


def transcription_checks(folder: Path, statement: Mapping[str, Any]) -> Iterator[Check]:
    """Checks everything but the promise, which a transcription shares with the trained run."""
    trained, files = read_trained(folder / PARENT), statement["artifact"]["files"]
    check_trained(trained)
    chain = statement[KEY]["chain"]
    check_chain(chain)
    keys = (statement.keys() | trained.keys()) - set(OWN)
    wrong = sorted(k for k in keys if not agree(statement.get(k), trained.get(k)))
    if chain[0]["statement"] != digest(trained):
        wrong.append("the run that was trained")
    if statement["artifact"]["parents"] != [chain[-1]["statement"]]:
        wrong.append("the parent")
    seen = f"the run in {PARENT}, and says the same of privacy"
    if wrong:
        seen = f"{', '.join(wrong):.200} differs from what follows from {PARENT}"
    yield Check("parents", not wrong, seen)
    yield file_check(folder, files)
    lines = read_copy(folder)
    yield from copy_checks(lines, trained)
    yield released_check(lines, trained)
    given = trained["artifact"]["files"]
    held = {PARENT_CONFIG: given.get("config.json"), "facts.json": given.get("facts.json")}
    other = [name for name, stated in held.items() if files.get(name) != stated]
    yield Check("files of the trained run", not other, ", ".join(other or held))
    yield from configuration_checks(folder, trained, PARENT_CONFIG)
    yield _own_configuration(folder, statement)


def chain_checks(folder: Path, statement: Mapping[str, Any]) -> Iterator[Check]:
    """Compares the runs that a transcription goes back to with those of the same names that lie
    beside it; nothing for a run that was trained.
    """
    for link in statement[KEY]["chain"] if KEY in statement else ():
        yield _beside_check(folder, link)


def _own_configuration(folder: Path, statement: Mapping[str, Any]) -> Check:
    config = read_json(folder / "config.json", FACTS_BYTES)
    wanted = {
        "schema": SCHEMA, "method": METHOD, "version": statement[KEY]["version"],
        "budget": read_json(folder / PARENT_CONFIG)["budget"],
        "parent": statement[KEY]["chain"][-1]["statement"],
    }  # fmt: skip
    wrong = sorted(name for name, value in wanted.items() if config.get(name) != value)
    if config.keys() != KEYS:
        wrong.append("its form")
    return Check("own configuration", not wrong, ", ".join(wrong) or "of a transcription")


def _beside_check(folder: Path, link: Mapping[str, str]) -> Check:
    """Compares the statement of a run that a transcription goes back to with the one that it names;
    nothing is compared where no run of that name lies beside it.
    """
    name, wanted = link["folder"], link["statement"]
    title = f"run {name!r:.80}"
    place = folder.resolve().parent / name
    if Path(name).name != name or name in ("", ".", "..") or not (place / CERTIFICATE).is_file():
        return Check(title, None, "not beside this one, not compared")
    try:
        found = digest(read_statement(place))
    except (CertificateError, OSError) as error:
        return Check(title, False, f"{error!s:.200}")
    if found == wanted:
        return Check(title, True, f"{place} has statement {wanted[:12]}, as named")
    return Check(
        title, False,
        f"{place} has statement {found[:12]}, not {wanted[:12]}: this is not made of it, or it was "
        "changed or trained anew since (move it elsewhere then)",
    )  # fmt: skip
