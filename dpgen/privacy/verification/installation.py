"""Compares an installation's ledger of a data set with a statement and with the run's copy of it.

If the ledger is available, the copy is not trusted: its lines must be all lines of the run, and the
spending of the data set is counted again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dpgen.privacy.accounting.accountant import round_up
from dpgen.privacy.ledger.chain import LEDGER_BYTES, LedgerError
from dpgen.privacy.ledger.charges import (
    lines_of_run,
    n_runs,
    plan_hash,
    relation_of,
    releases_of,
    spent_of,
)
from dpgen.privacy.ledger.privacy_ledger import PrivacyLedger
from dpgen.privacy.statements.certificate import EARLIER
from dpgen.privacy.statements.recorded import leaf_of
from dpgen.privacy.verification.check import Check, agree
from dpgen.privacy.verification.ledger_copy import read_copy
from dpgen.privacy.verification.promise import PUBLIC, basis_of
from dpgen.storage.files import open_file, parse_json

Lines = Sequence[dict[str, Any]]
LATER = ("limit", "executed")  # lines that may be noted after a run's statement was written


def installation_check(
    statement: Mapping[str, Any], run: Path | None, ledgers: Iterable[Path]
) -> Check:
    """Checks that the data set's ledger, if it is here, has the lines of the run and no others of
    it.

    Args:
        statement: statement of a run, or of a set drawn from one.
        run: folder of that run; None if it is not here.
        ledgers: ledger files of this installation.
    """
    name = statement["data_set"]["name"]
    path = next((path for path in ledgers if _opened_as(path) == name), None)
    if path is None:
        return Check("data set", None, f"no ledger of {name!r:.60} is here")
    try:
        lines = PrivacyLedger(path).lines()
    except LedgerError as error:
        return Check("data set", False, str(error))
    except OSError as error:
        return Check("data set", None, str(error))
    wrong = _contradiction(statement, run, lines)
    seen = f"{path} holds {n_runs(lines)} runs, {wrong or 'this one among them'}"
    return Check("data set", wrong is None, seen)


def _contradiction(
    statement: Mapping[str, Any], run: Path | None, lines: Lines
) -> str | None:
    """Returns the first fact that the ledger states differently."""
    old, account = statement["schema"] == EARLIER, statement["data_set"]
    if relation_of(lines) != basis_of(statement).relation:
        return "for another relation"
    if not agree(lines[0]["facts"], statement["facts"]):
        return "with other facts"
    if account["ledger"] in PUBLIC and not old:
        return f"and the statement has it in the {account['ledger']}"
    candidates = _charged_so(statement, lines)
    if run is not None:
        candidates = [mine for mine in candidates if _all_of(read_copy(run), mine, old=old)]
    if not candidates:
        return "not this"
    if not any(_counted(mine, lines, account) for mine in candidates):
        return f"and they did not spend {account['total_epsilon']:g} in {account['runs']} runs"
    return None


def _charged_so(statement: Mapping[str, Any], lines: Lines) -> list[Lines]:
    """Returns the lines of every run whose charges and releases are those of the statement."""
    m = relation_of(lines).max_records_per_unit
    stages = statement["mechanism"]["stages"]
    plans = {label: plan_hash(label, leaf_of(x).event, x, m) for label, x in stages.items()}
    runs = dict.fromkeys(line["run"] for line in lines if line["kind"] == "charge")
    found: list[Lines] = []
    for run in runs:
        mine = lines_of_run(lines, run)
        charged = {line["label"]: line["plan"] for line in mine if line["kind"] == "charge"}
        if charged == plans and agree(releases_of(mine), statement["releases"]):
            found.append(mine)
    return found


def _all_of(copy: Lines, mine: Lines, *, old: bool) -> bool:
    """Returns whether the copy holds all lines of the run, in order, except lines that were noted
    after it.
    """
    if old:  # such a copy holds no limits
        mine = [line for line in mine if line["kind"] != "limit"]
    later = mine[len(copy) :]
    return list(copy) == mine[: len(copy)] and all(line["kind"] in LATER for line in later)


def _counted(mine: Lines, lines: Lines, account: Mapping[str, Any]) -> bool:
    """Returns whether the first runs of the ledger, including this one, spent what the statement
    says.
    """
    runs = list(dict.fromkeys(line["run"] for line in lines if line["kind"] == "charge"))
    own = next(line["run"] for line in mine if line["kind"] == "charge")
    first = runs[: account["runs"]]
    if own not in first or len(first) < account["runs"]:
        return False
    kept = [x for x in lines if x["kind"] in ("open", "limit") or x.get("run") in first]
    return bool(round_up(spent_of(kept)) == account["total_epsilon"])


def _opened_as(path: Path) -> str | None:
    """Reads the name in the open line of a ledger; None if the file is not a ledger."""
    try:
        with open_file(path) as file:
            line = file.readline(LEDGER_BYTES).decode()
        return str(parse_json(line, str(path))["dataset"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
