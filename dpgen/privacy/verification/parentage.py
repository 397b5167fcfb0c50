"""Traces a statement to its origin: the model of a synthetic set, the runs that a transcription
goes back to, the ledger of the data set of a model.

A set's statement names the digest of its model's, and says the same about privacy. The ledger that
an installation keeps of the data set holds the lines of the copy in the run folder, and no others
of that run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from dpgen.privacy.statements.certificate import CERTIFICATE, CertificateError, read_statement
from dpgen.privacy.verification.check import Check
from dpgen.privacy.verification.installation import installation_check
from dpgen.privacy.verification.transcription import chain_checks
from dpgen.privacy.verification.verify import reading, verify
from dpgen.storage.canonical import digest

OWN = ("artifact", "statement", "sha256", "synthetic_dataset")  # what a set does not inherit
NEIGHBOURS = 200  # the most folders beside a set that are searched for its model


def trace(
    folder: Path, *, models: Sequence[Path] = (), ledgers: Iterable[Path] = ()
) -> list[Check]:
    """Checks the origin of the statement in ``folder``, as far as it is available here.

    Args:
        folder: a run or a synthetic set.
        models: run folders that sets were drawn from; without any, the folders beside ``folder``
            are searched for them.
        ledgers: ledger files of this installation.
    """
    statement = read_statement(folder)
    with reading(folder):
        if statement["artifact"]["kind"] == "model":
            if models:
                raise CertificateError(f"{folder} is a run itself: --model is for synthetic sets")
            beside = chain_checks(folder, statement)
            return [*beside, installation_check(statement, folder, ledgers)]
        sets = statement["mixture"]["parts"] if "mixture" in statement else [statement]
        return list(_set_checks(folder, sets, models, ledgers))


def _set_checks(
    folder: Path, sets: Sequence[Mapping[str, Any]], models: Sequence[Path], ledgers: Iterable[Path]
) -> Iterator[Check]:
    wanted = {part["artifact"]["parents"][0]: part for part in sets}
    if any(len(part["artifact"]["parents"]) != 1 for part in sets):
        raise CertificateError(f"{folder}: a set that is no mixture has one model")
    found = {digest(read_statement(path)): path for path in models}
    for mark, path in found.items():
        if mark not in wanted:
            yield Check("model", False, f"{path} is not what {folder} was drawn from")
    if not models:
        found = dict(_beside(folder, wanted))
    ledgers = list(ledgers)
    for mark, part in wanted.items():
        run = found.get(mark)
        if run is None:
            here = f"the run with statement {mark[:12]} is not here"
            seen = f"no --model is {mark[:12]}" if models else here
            yield Check("model", False if models else None, seen)
        else:
            yield _model_check(part, run)
        yield installation_check(part, run, ledgers)


def _beside(folder: Path, wanted: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """Yields the folders beside ``folder`` whose statement's digest is one of ``wanted``."""
    places = folder.absolute().parent.glob(f"*/{CERTIFICATE}")
    for place in islice(places, NEIGHBOURS):
        try:
            mark = digest(read_statement(place.parent))
        except (CertificateError, OSError, ValueError):
            continue
        if mark in wanted:
            yield mark, place.parent


def _model_check(part: Mapping[str, Any], path: Path) -> Check:
    """Checks that the run's own statement holds, and that the set's says the same of privacy."""
    model = read_statement(path)
    try:
        failed = [check.name for check in verify(path) if check.failed]
    except CertificateError as error:
        return Check("model", False, str(error))
    keys = (model.keys() | part.keys()) - set(OWN)
    other = sorted(key for key in keys if model.get(key) != part.get(key))
    if model["artifact"]["kind"] != "model":
        failed.insert(0, "it is not a run")
    if failed or other:
        wrong = [*failed, *(f"{key} differs" for key in other)]
        return Check("model", False, f"{path}: {', '.join(wrong)}")
    return Check("model", True, f"{path} is the run it was drawn from, and holds")
