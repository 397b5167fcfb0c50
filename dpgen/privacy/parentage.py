"""Where a statement comes from: the model of a synthetic set, the ledger of a model's data set.

A set's statement names the digest of its model's, and says the same about privacy. The ledger that
an installation keeps of the data set holds every line of the copy in the run folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from dpgen.files import open_file, parse_json, read_text
from dpgen.privacy.certificate import CERTIFICATE, CertificateError, read_statement
from dpgen.privacy.chain import LEDGER_BYTES, LedgerError, digest, parse_lines
from dpgen.privacy.charges import charged_event, n_runs, relation_of
from dpgen.privacy.events import event_to_json
from dpgen.privacy.ledger import PrivacyLedger
from dpgen.privacy.statement import stated_relation
from dpgen.privacy.verification import Check, reading, verify

OWN = ("artifact", "statement", "sha256", "synthetic_dataset")  # what a set does not inherit
NEIGHBOURS = 200  # folders beside a set that are looked into for its model


def trace(
    folder: Path, *, models: Sequence[Path] = (), ledgers: Iterable[Path] = ()
) -> list[Check]:
    """Checks of where the statement in ``folder`` comes from, as far as that is there.

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
            return [_ledger_check(statement, folder, ledgers)]
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
            seen = f"not looked at: the run with statement {mark[:12]} is not here"
            yield Check("model", not models, f"no --model is {mark[:12]}" if models else seen)
        else:
            yield _model_check(part, run)
        yield _ledger_check(part, run, ledgers)


def _beside(folder: Path, wanted: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """Folders in the same place whose statement is one of ``wanted``."""
    places = folder.absolute().parent.glob(f"*/{CERTIFICATE}")
    for place in islice(places, NEIGHBOURS):
        try:
            mark = digest(read_statement(place.parent))
        except (CertificateError, OSError, ValueError):
            continue
        if mark in wanted:
            yield mark, place.parent


def _model_check(part: Mapping[str, Any], path: Path) -> Check:
    """The run itself holds, and the set says of privacy what the run says."""
    model = read_statement(path)
    try:
        failed = [check.name for check in verify(path) if not check.passed]
    except CertificateError as error:
        return Check("model", False, str(error))
    keys = (model.keys() | part.keys()) - set(OWN)
    other = sorted(key for key in keys if model.get(key) != part.get(key))
    if model["artifact"]["kind"] != "model":
        failed.insert(0, "it is no run")
    if failed or other:
        wrong = [*failed, *(f"{key} differs" for key in other)]
        return Check("model", False, f"{path}: {', '.join(wrong)}")
    return Check("model", True, f"{path} is the run it was drawn from, and holds")


def _ledger_check(
    statement: Mapping[str, Any], run: Path | None, ledgers: Iterable[Path]
) -> Check:
    """The data set's ledger, where this installation has it, knows the run."""
    name = statement["data_set"]["name"]
    path = next((path for path in ledgers if _opened_as(path) == name), None)
    if path is None:
        return Check("data set", True, f"not looked at: no ledger of {name!r:.60} is here")
    try:
        lines = PrivacyLedger(path).lines()
        same = relation_of(lines) == stated_relation(statement["guarantee"])
        charged = event_to_json(charged_event(lines))
    except LedgerError as error:
        return Check("data set", False, str(error))
    except OSError as error:
        return Check("data set", True, f"not looked at: {error}")
    same = same and lines[0]["facts"] == statement["facts"]
    if run is None:
        rows = statement["accounting"]["events"]
        same = same and all(any(_covers(total, row) for total in charged) for row in rows)
    else:
        kept = {line["hash"] for line in lines}
        copied = run / "ledger.jsonl"
        copy = parse_lines(read_text(copied, LEDGER_BYTES), str(copied))
        same = same and all(line["hash"] in kept for line in copy)
    seen = f"{path} holds {n_runs(lines)} runs, " + ("this one among them" if same else "not this")
    return Check("data set", same, seen)


def _covers(total: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Whether all charges of one kind together hold this event."""
    like = (total["rate"], total["noise_multiplier"]) == (row["rate"], row["noise_multiplier"])
    return bool(like and total["steps"] >= row["steps"])


def _opened_as(path: Path) -> str | None:
    """The name in the open line of a ledger; None for what is none."""
    try:
        with open_file(path) as file:
            line = file.readline(LEDGER_BYTES).decode()
        return str(parse_json(line, str(path))["dataset"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
