"""Statements that are sealed again after an edit: the account of the data set, files, parents."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpgen.privacy.ledger.privacy_ledger import PrivacyLedger
from dpgen.privacy.statements.certificate import (
    CertificateError,
    read_statement,
    statement_bytes,
)
from dpgen.privacy.verification.check import Check
from dpgen.privacy.verification.installation import _all_of, installation_check
from dpgen.privacy.verification.parentage import trace
from dpgen.privacy.verification.promise import PUBLIC, SHARED
from dpgen.privacy.verification.verify import verify
from dpgen.storage.canonical import digest

Kit = Any  # what conftest.py shares

pytestmark = pytest.mark.usefixtures("remembering")


@pytest.fixture
def run(kit: Kit, tmp_path: Path) -> Path:
    return kit.run(tmp_path / "runs" / "one", ledger=tmp_path / "ledger.jsonl")


def reseal(folder: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    statement = json.loads((folder / "privacy.json").read_text())
    edit(statement)
    body = {key: value for key, value in statement.items() if key != "sha256"}
    (folder / "privacy.json").write_bytes(statement_bytes({**body, "sha256": digest(body)}))
    return folder


def failed(folder: Path) -> dict[str, str]:
    return {check.name: check.seen for check in verify(folder) if check.failed}


def test_a_genuine_run_has_no_failed_check(run: Path) -> None:
    assert failed(run) == {}


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"ledger": "in a drawer"}, "a ledger in 'in a drawer'"),
        ({"runs": 0}, "0 runs"),
        ({"runs": True}, "True runs"),
        ({"total_epsilon": 0.01}, "a total of 0.01 with a run of"),
        ({"total_epsilon": 2.5}, "a total of 2.5, with one run of"),
        ({"runs": 2, "total_epsilon": 1e9}, "above the limit"),
        ({SHARED: 0.01}, "0.01 over all data sets"),
        ({SHARED: 9.0, "ledger": PUBLIC[0]}, "a total over data sets, of data that are public"),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_an_account_that_cannot_be_true_is_a_failure(
    changed: dict[str, Any], word: str, run: Path
) -> None:
    reseal(run, lambda statement: statement["data_set"].update(changed))
    assert word in failed(run)["account of the data set"]


@pytest.mark.parametrize("stages", [{}, [], {str(k): {} for k in range(10_000)}], ids=len)
def test_a_run_has_a_few_stages_by_name(stages: Any, run: Path) -> None:  # noqa: ANN401
    reseal(run, lambda statement: statement["mechanism"].update(stages=stages))
    with pytest.raises(CertificateError, match="a statement has 1 to"):
        verify(run)


@pytest.mark.parametrize("name", ["config.json", "facts.json"])
def test_a_run_without_its_configuration_is_a_failure(name: str, run: Path) -> None:
    (run / name).unlink()
    reseal(run, lambda statement: statement["artifact"]["files"].pop(name))
    assert failed(run)["configuration"] == f"{name} is not among the files"


def test_a_set_with_two_models_is_refused(kit: Kit, run: Path, tmp_path: Path) -> None:
    drawn = kit.set(tmp_path / "set", run)
    reseal(drawn, lambda statement: statement["artifact"]["parents"].append("0" * 64))
    with pytest.raises(CertificateError, match="a set that is no mixture has one model"):
        trace(drawn)


def test_a_model_that_cannot_be_verified_is_a_failure_of_its_set(
    kit: Kit, run: Path, tmp_path: Path
) -> None:
    """Its statement is the one that the set names; the ledger's copy beside it is no JSON."""
    drawn = kit.set(tmp_path / "set", run)
    copy = run / "ledger.jsonl"
    copy.write_bytes(b"no line\n")
    (check,) = [c for c in trace(drawn, models=[run]) if c.name == "model"]
    assert check.failed and "ledger.jsonl" in check.seen


def test_a_set_is_no_model_of_another(kit: Kit, run: Path, tmp_path: Path) -> None:
    drawn = kit.set(tmp_path / "set", run)
    other = reseal(
        kit.set(tmp_path / "other", run),
        lambda statement: statement["artifact"].update(parents=[digest(read_statement(drawn))]),
    )
    (check,) = [c for c in trace(other, models=[drawn]) if c.name == "model"]
    assert check.failed and "it is not a run" in check.seen


def test_a_ledger_that_cannot_be_read_proves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_: PrivacyLedger) -> None:
        raise PermissionError("permission denied")

    def check() -> Check:
        return installation_check(read_statement(run), run, [tmp_path / "ledger.jsonl"])

    assert check().held
    monkeypatch.setattr(PrivacyLedger, "lines", denied)
    assert check().held is None and "permission denied" in check().seen


def test_a_copy_may_lack_what_came_after_it_and_nothing_else() -> None:
    charge, limit, done = {"kind": "charge"}, {"kind": "limit"}, {"kind": "executed"}
    assert _all_of([charge, done], [charge, done], old=False)
    assert _all_of([charge, done], [charge, done, limit], old=False)
    assert not _all_of([charge, done], [charge, done, charge], old=False)
    assert not _all_of([charge, done], [charge], old=False)
    # An earlier version copied no limits.
    assert _all_of([charge, done], [charge, limit, done], old=True)
    assert not _all_of([charge, done], [charge, limit, done], old=False)
