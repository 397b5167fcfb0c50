"""Bugs in what a transcription says of privacy, and in what is compared when it is verified."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dpgen.images.facts import PublicFacts
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.statements.certificate import CERTIFICATE
from dpgen.privacy.statements.document import read_document
from dpgen.privacy.statements.transcription import KEY
from dpgen.privacy.verification.check import Check
from dpgen.runs.released import load_network
from dpgen.settings import read_config
from dpgen.storage.canonical import digest
from dpgen.transcription import source
from tests.mutations.bug import Bug, Change

CHECKS = "dpgen.privacy.verification.transcription"


def changed(change: Callable[[dict[str, Any]], None]) -> Change:
    """A statement that is not, word for word, that of the run, and is sealed again."""

    def make(original: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        def transcribed(*given: Any, **named: Any) -> dict[str, Any]:  # noqa: ANN401
            found = original(*given, **named)
            found = {k: dict(v) if isinstance(v, dict) else v for k, v in found.items()}
            del found["sha256"]
            change(found)
            return {**found, "sha256": digest(found)}

        return transcribed

    return make


def half_of_epsilon(statement: dict[str, Any]) -> None:
    """As if a transcription had part of what its run has spent."""
    statement["guarantee"]["epsilon"] = statement["guarantee"]["epsilon"] / 2


def without_the_first_stage(statement: dict[str, Any]) -> None:
    mechanism = statement["mechanism"]
    _, *rest = mechanism["stages"]
    mechanism["stages"] = {label: mechanism["stages"][label] for label in rest}


def unseen(name: str) -> Change:
    """A check that holds whatever it finds."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def passed(check: Check) -> Check:
            return Check(check.name, True, check.seen) if check.name == name else check

        def checks(*given: Any) -> Any:  # noqa: ANN401
            found = original(*given)
            return passed(found) if isinstance(found, Check) else map(passed, found)

        return checks

    return make


def nothing(original: Callable[..., Any]) -> Callable[..., Iterator[Check]]:
    return lambda *given: iter(())


def not_beside(original: Callable[..., Check]) -> Callable[..., Check]:
    """The run beside a transcription is found, and its statement is not compared."""
    return lambda folder, link: Check(f"run {link['folder']!r:.80}", True, "is there")


def vouched_for(original: Callable[..., Any]) -> Callable[..., Any]:
    """A classifier has the certificate that lies beside it."""

    def lone(path: Path, settings: Any, facts: Any, **named: Any) -> Any:  # noqa: ANN401
        if not (path.parent / CERTIFICATE).is_file():
            return original(path, settings, facts, **named)
        run, document = path.parent, read_document(path.parent)
        teacher: Any = load_network(path)
        model: Any = load_network(run / "model.safetensors")
        return source.Source(
            teacher, model, PublicFacts.from_dict(document.content["facts"]),
            Budget(**read_config(run)["budget"]), settings, digest(document.content),
            source._carried(run, document.content), document, run.name,
        )  # fmt: skip

    return lone


def by_its_name(original: Callable[..., str]) -> Callable[..., str]:
    """Runs of one name are one run."""

    def origin(statement: dict[str, Any], model: str) -> str:
        chain = statement.get(KEY, {}).get("chain")
        return chain[0]["folder"] if chain else original(statement, model)

    return origin


def from_the_parent_on(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda statement, folder: [{"statement": digest(statement), "folder": folder}]


BUGS = (
    Bug(
        "a transcription states a smaller epsilon than its run",
        "what is made of released networks tells as much of a record as they do",
        "transcription",
        {"dpgen.transcription.source.transcribed": changed(half_of_epsilon)},
    ),
    Bug(
        "a transcription leaves out a stage of its run",
        "its networks depend on what every stage released, and one of them is not priced",
        "transcription",
        {"dpgen.transcription.source.transcribed": changed(without_the_first_stage)},
    ),
    Bug(
        "a transcription names its parent, not the run that was trained",
        "nobody finds the run whose guarantee it has, and its statement cannot be compared",
        "transcription", {"dpgen.transcription.source.chain_of": from_the_parent_on},
    ),
    Bug(
        "a run that does not hold is transcribed",
        "a wrong epsilon is handed on, under a statement that is whole in itself",
        "transcription", {"dpgen.transcription.source.verify": nothing},
    ),
    Bug(
        "a classifier gets the certificate that lies beside it",
        "nobody knows how it was trained: the certificate is of another network",
        "transcription", {"dpgen.transcription.source._lone": vouched_for},
    ),
    Bug(
        "statement of a transcription not compared with the one that it keeps of its run",
        "the promise of a cheaper run stands over networks of a dear one",
        "transcription",
        {"dpgen.privacy.verification.verify.transcription_checks": unseen("parents")},
    ),
    Bug(
        "statement of the run beside a transcription not compared",
        "networks of a dear run under all papers of a cheap one look as if they belonged to it",
        "transcription", {f"{CHECKS}._beside_check": not_beside},
    ),
    Bug(
        "ledger lines of a transcription not compared with the stages",
        "events may be dropped from the copy by which anybody counts again",
        "transcription", {f"{CHECKS}.copy_checks": nothing},
    ),
    Bug(
        "networks of a transcription not compared with their hashes",
        "networks of any other run pass under its statement",
        "transcription", {f"{CHECKS}.file_check": unseen("files")},
    ),
    Bug(
        "transcriptions of different runs count as one where the runs have one name",
        "a mixture of them is priced at one run, and the records paid for two",
        "transcription", {"dpgen.privacy.statements.mixture.origin_of": by_its_name},
    ),
)  # fmt: skip
