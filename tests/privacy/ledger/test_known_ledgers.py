"""Which ledgers an installation knows: grown, moved, copied, lost, old, elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from dpgen.commands.ledger_report import ledger_table
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.accounting.events import GaussianLeaf
from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.ledger.charges import Charge, plan_hash
from dpgen.privacy.ledger.known_ledgers import KnownLedgers
from dpgen.privacy.ledger.marks import MarksFile
from dpgen.privacy.ledger.privacy_ledger import BudgetExceeded, PrivacyLedger
from dpgen.privacy.ledger.shared_ledger import OverlapError
from tests.privacy.installation import Installation, runs_in

Kit = Any  # what conftest.py shares


def test_a_declared_growth_adds_up_in_its_ledger_and_joins_its_marks(here: Installation) -> None:
    first = here.run("a", 0, 10).ledger.path
    grown = here.run("b", 0, 12, ledger=first)
    assert runs_in(first) == ["a"] * 2 + ["b"] * 2
    for start, stop, shared in ((10, 20, 2), (0, 5, 5), (11, 12, 1)):
        with pytest.raises(OverlapError, match=f" {shared} different images are in .*{first}"):
            here.run("c", start, stop)
    # A shrunk one is still known by what it held.
    here.run("d", 0, 3, ledger=first)
    with pytest.raises(OverlapError, match=" 12 different images"):
        here.run("e", 0, 20)
    assert grown.account()["record_total_epsilon"] == grown.account()["total_epsilon"]
    marked = [line["declared"] for line in PrivacyLedger(first).lines() if line["kind"] == "marked"]
    assert marked == [False, True, True]


def test_growing_into_a_third_data_set_is_an_overlap_with_that_one(here: Installation) -> None:
    a, b = here.run("a", 0, 10), here.run("b", 10, 20)
    with pytest.raises(OverlapError, match=f" 1 different images are in .*{b.ledger.path}"):
        here.run("c", 0, 11, ledger=a.ledger.path)
    assert runs_in(a.ledger.path) == ["a", "a"]


def test_ledgers_elsewhere_are_known_whichever_came_first(
    here: Installation, tmp_path: Path
) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "far" / "two.jsonl"
    here.run("a", 0, 10, ledger=one)
    with pytest.raises(OverlapError, match=f" 10 different images are in .*{one}"):
        here.run("b", 0, 10)
    with pytest.raises(OverlapError, match=f" 10 different images are in .*{one}"):
        here.run("b", 0, 10, ledger=two)
    here.run("c", 10, 20)
    with pytest.raises(OverlapError, match=" 5 different images are in "):
        here.run("d", 15, 25, ledger=two)
    assert not two.exists()


def test_a_ledger_that_was_moved_is_found_and_one_that_was_copied_is_refused(
    here: Installation, tmp_path: Path
) -> None:
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    here.run("a", 0, 10, ledger=old)
    for suffix in ("", ".head"):
        shutil.copy(f"{old}{suffix}", f"{new}{suffix}")
    with pytest.raises(LedgerError, match=f"{new} is a copy of the ledger {old}"):
        here.run("b", 0, 10, ledger=new)
    old.unlink()
    assert runs_in(here.run("b", 0, 10, ledger=new).ledger.path) == ["a", "a", "b", "b"]
    with pytest.raises(OverlapError, match=f" 10 different images are in .*{new}"):
        here.run("c", 0, 10)


def test_a_ledger_that_is_gone_is_missed_where_its_records_come_back_and_only_there(
    here: Installation, tmp_path: Path
) -> None:
    path = tmp_path / "own.jsonl"
    name = here.run("a", 0, 10, ledger=path).ledger.dataset
    path.unlink()
    here.run("b", 10, 20)
    for rule in ("refuse", "charge", "separate"):
        with pytest.raises(LedgerError, match=f"^4 different images are in .*{path}.*cannot be re"):
            here.run("c", 6, 10, overlap=rule)
    assert f"{name}  is not there: {path}" in ledger_table(None, None)
    # Nor is another ledger taken for it.
    path.with_name("own.jsonl.head").unlink()
    here.run("d", 20, 30, ledger=path)
    with pytest.raises(LedgerError, match="is now that of another data set"):
        here.run("c", 6, 10, overlap="charge")


def test_lost_marks_hold_up_every_run_until_that_data_set_makes_them_again(
    here: Installation, home: Path
) -> None:
    """Also when that run is then refused for its budget."""
    a = here.run("a", 0, 10, limit=Budget(0.04, 1e-5))
    here.run("b", 0, 10)
    own = home / "ledgers" / f"{a.ledger.dataset}.marks"
    before = MarksFile(own).read()
    own.unlink()
    assert "marks of its records are lost" in ledger_table(None, None)
    for start in (0, 15):
        with pytest.raises(LedgerError, match=f"has lost the marks of its records, {own}.*--ledg"):
            here.run("c", start, start + 5, overlap="charge")
    with pytest.raises(LedgerError, match="has lost the marks"):
        here.run("c", 0, 11, ledger=a.ledger.path)
    here.run("a", 0, 10)  # a resume, which reads nothing that is not paid for
    assert not own.exists()
    with pytest.raises(BudgetExceeded):
        here.run("c", 0, 10)
    after = MarksFile(own).read()
    assert before is not None and after is not None and after.ledger == before.ledger
    assert list(after.blocks) == list(before.blocks) and after.all.tolist() == before.all.tolist()
    here.run("c", 15, 20)
    own.write_bytes(own.read_bytes()[:-1])
    with pytest.raises(LedgerError, match="is damaged"):
        here.run("d", 21, 25)


def test_lost_marks_of_records_that_joined_a_ledger_come_from_a_backup_alone(
    here: Installation, home: Path
) -> None:
    """No fingerprint says which they were."""
    a = here.run("a", 0, 10)
    own = home / "ledgers" / f"{a.ledger.dataset}.marks"
    first = own.read_bytes()
    here.run("b", 0, 15, ledger=a.ledger.path)
    whole = own.read_bytes()
    for damage in (lambda: own.unlink(), lambda: own.write_bytes(first)):
        damage()
        for given in ({}, {"ledger": a.ledger.path}):
            with pytest.raises(LedgerError, match="has lost the marks.*from a backup$"):
                here.run("c", 0, 10, **given)
        with pytest.raises(LedgerError, match="has lost the marks"):
            here.run("c", 20, 30)
    own.write_bytes(whole)
    here.run("c", 0, 10)


def test_a_ledger_from_before_there_were_marks_gets_them_with_the_next_run_even_a_refused_one(
    here: Installation, home: Path
) -> None:
    event = GaussianLeaf(1.0, 6.0, 10).event
    data = here.data(0, 10)
    data.ledger.charge("old", [Charge("x", plan_hash("x", event, {}), event)])
    path = data.ledger.path
    assert here.data(5, 15).overlaps() == []
    assert "no marks of its records" in ledger_table(path, None)
    with pytest.raises(BudgetExceeded):
        here.run("a", 0, 10)
    assert runs_in(path) == ["old"]
    with pytest.raises(OverlapError, match=" 5 different images"):
        here.run("b", 5, 15)
    assert "10 different images marked" in ledger_table(path, None)
    # Not those of other data, before they are charged to it.
    with pytest.raises(BudgetExceeded):
        here.run("c", 0, 12, ledger=path)
    assert here.data(10, 15).overlaps() == []


def test_marks_of_another_installation_are_not_taken_for_lost(
    here: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two installations on one ledger file: each keeps marks of its own, and sees no other's."""
    path = tmp_path / "shared.jsonl"
    here.run("a", 0, 10, ledger=path)
    monkeypatch.setenv("DPGEN_HOME", str(tmp_path / "other home"))
    here.run("b", 0, 10, ledger=path)
    here.run("c", 10, 20)
    with pytest.raises(OverlapError, match=" 10 different images"):
        here.run("d", 0, 10)
    assert runs_in(path) == ["a", "a", "b", "b"]
    keys = [line["key"] for line in PrivacyLedger(path).lines() if line["kind"] == "marked"]
    assert len(set(keys)) == 2


def test_the_table_of_ledgers_says_what_is_shared(here: Installation) -> None:
    a, b = here.run("a", 0, 10).ledger.dataset, here.run("b", 10, 20).ledger.dataset
    c = here.run("c", 8, 20, overlap="charge").ledger.dataset
    rows = ledger_table(None, None).rpartition("\n\n")[0].splitlines()[1:]  # without the legend
    told = {row.split()[0]: rows[i + 1].strip() for i, row in enumerate(rows) if row[0] != " "}
    assert set(told) == {a, b, c}
    assert told[a] == f"10 different images marked, 2 of them also in {c}"
    assert told[b] == f"10 different images marked, 10 of them also in {c}"
    assert sorted(told[c].split(", ")) == sorted(
        ["12 different images marked", f"2 of them also in {a}", f"10 of them also in {b}"]
    )


@pytest.mark.parametrize("name", ["../x", "a/b", "", "a.b", "/etc"])
def test_a_ledger_whose_name_is_a_path_has_no_marks_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="must be named by letters and digits"):
        KnownLedgers(tmp_path, "key").file_of(name)


def test_a_rule_that_is_none_is_refused(here: Installation) -> None:
    with pytest.raises(ValueError, match="must be one of refuse, charge, separate, got 'x'"):
        here.data(0, 10, overlap="x")
