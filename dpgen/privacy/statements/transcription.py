"""What a statement says of a transcription: networks made of a run's networks, without its data.

A transcribed run is a function of what its parent released, and has the parent's guarantee, word
for word (theorem A3, post-processing). It keeps the statement and the configuration of the run that
was trained, and that run's ledger lines, so that everything is computed again without the parent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpgen.privacy.statements.certificate import (
    LARGEST_STATEMENT,
    SCHEMA,
    CertificateError,
    intact,
    now,
    statement_bytes,
)
from dpgen.storage.canonical import digest
from dpgen.storage.files import parse_json, read_bytes

KEY = "transcription"  # in a statement; absent where networks learned from the records
PARENT, PARENT_CONFIG = "parent.json", "parent_config.json"  # files of a transcribed run
METHOD = "transcription"  # in its config.json
OWN = ("artifact", "sha256", KEY)  # what it does not share with the statement of the trained run
LONGEST_CHAIN, LONGEST_NAME = 100, 255

# The runs that a transcription goes back to, the one that was trained first and its parent last:
# the digest of each one's statement and the name of its folder.
Chain = Sequence[Mapping[str, str]]


def chain_of(statement: Mapping[str, Any], folder: str) -> list[dict[str, str]]:
    """Returns the chain of a transcription of this run, with the run itself as its last link.

    Args:
        statement: statement or notice of the run.
        folder: name of its folder.

    Raises:
        CertificateError: the chain is too long.
    """
    chain = [dict(link) for link in statement[KEY]["chain"]] if KEY in statement else []
    chain.append({"statement": digest(statement), "folder": folder})
    check_chain(chain)
    return chain


def check_chain(chain: Any) -> None:  # noqa: ANN401
    """Raises CertificateError for what is not a chain of runs."""
    fine = isinstance(chain, list) and 1 <= len(chain) <= LONGEST_CHAIN
    for link in chain if fine else ():
        fine = fine and isinstance(link, dict) and link.keys() == {"statement", "folder"}
        fine = fine and all(isinstance(value, str) for value in link.values())
        fine = fine and len(link["folder"]) <= LONGEST_NAME
    if not fine:
        raise CertificateError(
            f"a transcription goes back to 1 to {LONGEST_CHAIN} runs, each with the digest of its "
            f"statement and the name of its folder, got {chain!r:.80}"
        )


def transcribed(
    trained: Mapping[str, Any], chain: Chain, *, files: Mapping[str, str], version: str
) -> dict[str, Any]:
    """Makes the statement of a transcribed run.

    Args:
        trained: statement of the run at the beginning of the chain.
        chain: the runs that it goes back to.
        files: SHA-256 of every file of the transcribed run.
        version: version of dpgen that made it.

    Raises:
        CertificateError: the trained run's statement is of an earlier schema.
    """
    check_trained(trained)
    statement = {
        **{key: value for key, value in trained.items() if key not in OWN},
        "artifact": {
            "kind": "model",
            "files": dict(files),
            "created": now(),
            "parents": [chain[-1]["statement"]],
        },
        KEY: told(trained["mechanism"]["id"], chain, version),
    }
    return {**statement, "sha256": digest(statement)}


def told(mechanism: str, chain: Chain, version: str) -> dict[str, Any]:
    """Returns the part of a statement about the transcription.

    Args:
        mechanism: id of method and mode of the run that was trained.
        chain: the runs that it goes back to.
        version: version of dpgen that made the transcription.
    """
    names = ", then ".join(
        f"{link['folder']!r} with statement {link['statement'][:12]}" for link in chain
    )
    return {
        "chain": [dict(link) for link in chain],
        "version": version,
        "statement": (
            f"Generator and student were made of what a run of {mechanism} released, without its "
            f"records: they have its guarantee and cost nothing more (made of {names})."
        ),
    }


def check_trained(statement: Mapping[str, Any]) -> None:
    """Raises CertificateError for what is not the statement of a run that was trained."""
    if KEY in statement:
        raise CertificateError(f"{PARENT} must be of a run that was trained, not transcribed")
    if statement["schema"] != SCHEMA or statement["artifact"]["kind"] != "model":
        raise CertificateError(
            f"a transcription is made of a run with a statement of {SCHEMA}, got a "
            f"{statement['artifact']['kind']!r:.40} of {statement['schema']!r:.40}: train it anew "
            "with this version"
        )


def read_trained(path: Path) -> dict[str, Any]:
    """Reads the statement of the trained run from the file of a transcribed one. Raises
    CertificateError where it was changed.
    """
    text = read_bytes(path, LARGEST_STATEMENT)
    trained = parse_json(text.decode(), str(path))
    if not (isinstance(trained, dict) and intact(trained) and text == statement_bytes(trained)):
        raise CertificateError(f"{path} was changed since it was written")
    return trained


def origin_of(statement: Mapping[str, Any], model: str) -> str:
    """Returns the digest of the statement of the run that was trained: that of ``model``, or of the
    first in the chain of a transcription. What was made of one run costs what it cost, once.

    Args:
        statement: of a run or of a set drawn from it.
        model: digest of the statement of that run.
    """
    if KEY not in statement:
        return model
    check_chain(statement[KEY]["chain"])
    return str(statement[KEY]["chain"][0]["statement"])


def words_of(statement: Mapping[str, Any]) -> str | None:
    """Returns the words of a statement on its transcription; None if there was none."""
    return str(statement[KEY]["statement"]) if KEY in statement else None
