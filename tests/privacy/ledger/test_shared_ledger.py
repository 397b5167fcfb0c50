"""Data sets that share records: a run is charged to every ledger that holds one, or refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dpgen.data.identity import known_ledgers
from dpgen.data.private import PrivateDataset
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.ledger import shared_ledger
from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.ledger.ledger_file import LedgerFile
from dpgen.privacy.ledger.marks import MarksFile
from dpgen.privacy.ledger.privacy_ledger import BudgetExceeded, PrivacyLedger
from dpgen.privacy.ledger.shared_ledger import OverlapError
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.privacy.plan import Plan, Stage
from dpgen.privacy.statements.notice import Claim, unbounded
from dpgen.storage.durable import held_alone
from tests.privacy.installation import LIMIT, Installation, price_by_count, runs_in
from tests.relations import ADD_REMOVE

Kit = Any  # what conftest.py shares

CLAIM = Claim("x/paper", 1.0, "words", unbounded(1e-5), "Why. How.", "section 0", {"n_steps": 3})


def snapshot(home: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in sorted((home / "ledgers").iterdir())
        if path.suffix != ".lock"
    }


def test_one_shared_record_is_named_with_its_ledger_and_the_total_and_nothing_is_charged(
    here: Installation, home: Path
) -> None:
    first = here.run("a", 0, 20)
    before = snapshot(home)
    with pytest.raises(OverlapError) as told:
        here.run("b", 19, 39)
    words = str(told.value)
    for part in (
        "of the 20 different images of these data, 1 different images are in the ledger "
        f"{first.ledger.path} ({first.ledger.dataset})",
        "limit epsilon = 0.1 at delta = 1e-05; 0.02 is spent, and with this run it would be 0.04",
        f"--ledger {first.ledger.path} adds up", "--overlap charge", "--overlap separate",
    ):  # fmt: skip
        assert part in words, words
    assert snapshot(home) == before
    # Strangers are not refused.
    assert runs_in(here.run("c", 20, 40).ledger.path) == ["c", "c"]


def test_every_known_ledger_that_shares_a_record_is_named(here: Installation) -> None:
    here.run("a", 0, 10)
    here.run("b", 10, 20)
    with pytest.raises(OverlapError, match=r"10 different images are in .*; 4 different images"):
        here.run("c", 0, 14)
    data = here.data(0, 14)
    assert [(o.shared, o.known) for o in data.overlaps()] == [(10, 10), (4, 10)]


def test_overlap_charge_charges_all_or_none_each_within_its_own_limit(
    here: Installation, home: Path
) -> None:
    a, b = here.run("a", 0, 10), here.run("b", 10, 20, limit=Budget(0.05, 1e-5))
    c = here.run("c", 5, 15, overlap="charge")
    assert runs_in(c.ledger.path) == ["c"] * 2
    assert runs_in(a.ledger.path) == ["a"] * 2 + ["c"] * 2
    assert runs_in(b.ledger.path) == ["b"] * 2 + ["c"] * 2
    before = snapshot(home)
    # 0.06 would be more than the 0.05 of b; a and c have room.
    with pytest.raises(BudgetExceeded, match=rf"are in the ledger {b.ledger.path} .*limit of"):
        here.run("d", 5, 15, overlap="charge")
    assert snapshot(home) == before
    # The own limit, too.
    with pytest.raises(BudgetExceeded, match="this data set has a limit"):
        here.run("e", 0, 5, overlap="charge", limit=Budget(0.01, 1e-5))
    assert snapshot(home) == before


def test_a_resume_pays_nothing_and_asks_nothing(here: Installation, home: Path) -> None:
    """Nor when another data set with some of its records was begun meanwhile."""
    here.run("a", 0, 20)
    here.run("b", 10, 30, overlap="charge")
    paid = {path: runs_in(path) for path in (home / "ledgers").glob("*.jsonl")}
    marks = {path: path.read_bytes() for path in (home / "ledgers").glob("*.marks")}
    here.run("a", 0, 20)
    here.run("b", 10, 30, overlap="charge")
    here.run("b", 10, 30)
    assert {path: runs_in(path) for path in paid} == paid
    assert {path: path.read_bytes() for path in marks} == marks and len(marks) == 2
    with pytest.raises(OverlapError):
        here.run("a again", 0, 20)


def test_accounts_kept_separate_are_told_together(here: Installation) -> None:
    a = here.run("a", 0, 20)
    b = here.run("b", 10, 30, overlap="separate")
    assert runs_in(a.ledger.path) == ["a", "a"] and runs_in(b.ledger.path) == ["b", "b"]
    for data in (a, b):
        told = data.account()
        assert (told["total_epsilon"], told["record_total_epsilon"]) == (0.02, 0.04)
    alone = here.run("c", 30, 40)
    assert alone.account()["record_total_epsilon"] == alone.account()["total_epsilon"] == 0.02


def test_what_a_record_spent_counts_each_run_once_however_many_ledgers_it_stands_in(
    here: Installation,
) -> None:
    here.run("a", 0, 10)
    here.run("b", 10, 20)
    c = here.run("c", 5, 15, overlap="charge")
    assert c.account()["record_total_epsilon"] == 0.06
    assert c.account()["total_epsilon"] == 0.02
    # Through data that neither shares a record with the other: b and a are strangers.
    assert here.data(10, 20).account()["record_total_epsilon"] == 0.04


def test_no_record_has_spent_more_than_is_told_whatever_the_rules_and_the_order(
    here: Installation,
) -> None:
    """Against a count of the runs of every single record."""
    generator = torch.Generator().manual_seed(3)
    spent, sets = [0.0] * 40, set()
    for number in range(10):
        start, size, kind = (
            int(torch.randint(n, (1,), generator=generator)) for n in (30, 9, 2)
        )
        chosen = (start, start + 1 + size)
        rule = ("charge", "separate")[kind]
        here.run(str(number), *chosen, overlap=rule, limit=Budget(9.0, 1e-5))
        sets.add(chosen)
        for record in range(*chosen):
            spent[record] += 0.02
        for known in sets:
            told = here.data(*known).account()
            assert told["record_total_epsilon"] >= max(spent[slice(*known)]) - 1e-9
            assert told["record_total_epsilon"] >= told["total_epsilon"]
    assert max(spent) > 0.05


def test_marks_are_on_disk_before_any_charge_and_after_every_check(
    here: Installation, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.run("a", 0, 10)
    events: list[str] = []
    append, add, due = LedgerFile.append, MarksFile.add, PrivacyLedger.due

    def appended(file: LedgerFile, lines: Any, bodies: Any) -> None:  # noqa: ANN401
        append(file, lines, bodies)
        events.append(" ".join([lines[0]["dataset"], *(body["kind"] for body in bodies)]))

    def added(file: MarksFile, *given: Any) -> Any:  # noqa: ANN401
        names = add(file, *given)
        events.append(f"marks of {file.path.stem}")
        return names

    def checked(ledger: PrivacyLedger, *given: Any) -> Any:  # noqa: ANN401
        bodies = due(ledger, *given)
        events.append("checked")
        with pytest.raises(ValueError, match="held"):
            with held_alone(home / "ledgers" / "known", busy="held"):
                raise AssertionError
        return bodies

    monkeypatch.setattr(LedgerFile, "append", appended)
    monkeypatch.setattr(MarksFile, "add", added)
    monkeypatch.setattr(PrivacyLedger, "due", checked)
    own = here.run("b", 5, 15, overlap="charge").ledger.dataset
    (other,) = {known.dataset for known in known_ledgers().all()} - {own}
    assert events == [
        "checked", "checked", f"{own} open", f"marks of {own}", f"{other} charge charge",
        f"{own} marked charge charge", f"{own} lineage",
    ]  # fmt: skip


class Killed(Exception):
    """What a kill at a system call looks like from inside."""


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_kill_anywhere_between_the_ledgers_never_under_counts_and_the_next_try_pays_the_rest(
    call: str, kit: Kit, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    price_by_count(monkeypatch)
    real, survived, partly = getattr(os, call), False, False
    for at in range(1, 60):
        monkeypatch.setenv("DPGEN_HOME", str(tmp_path / f"home {at}"))
        here = Installation(kit, tmp_path / str(at))
        a, b = here.run("a", 0, 10).ledger.path, here.run("b", 10, 20).ledger.path
        seen = 0

        def interrupted(*args: Any, at: int = at, **kwargs: Any) -> Any:  # noqa: ANN401
            nonlocal seen
            seen += 1
            if seen == at:
                raise Killed
            return real(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, interrupted)
            try:
                here.run("c", 5, 15, overlap="charge")
                survived = True
            except Killed:
                pass
        own = here.data(5, 15)
        told = [runs_in(path).count("c") for path in (a, b)]
        mine = runs_in(own.ledger.path).count("c") if own.ledger.path.exists() else 0
        partly |= 0 < sum(told) < 4
        # Whoever stands in the own ledger stands in all, and every record of it is marked.
        assert mine == 0 or (told == [2, 2] and mine == 2)
        if mine:
            held = known_ledgers().glance(own.ledger.path)
            assert held.marks is not None and len(held.marks.all) == 10 and held.missing == ()
        if not survived and mine == 0 and told != [2, 2]:
            with pytest.raises(OverlapError):  # not skipped because it was begun
                here.run("c", 5, 15)
        # A stranger to the two, who shares records with the interrupted one, is not held up by it.
        if mine == 0:
            assert here.data(5, 15).overlaps() and len(here.data(20, 30).overlaps()) == 0
        here.run("c", 5, 15, overlap="charge")
        here.run("c", 5, 15, overlap="charge")
        for path in (a, b, own.ledger.path):
            assert runs_in(path).count("c") == 2
        if survived:
            break
    assert survived and partly


def test_a_run_that_was_never_charged_bars_nobody(
    here: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between its marks and its charge."""

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(shared_ledger.SharedLedger, "_mark", _then(killed))
        with pytest.raises(Killed):
            here.run("a", 0, 10)
    assert here.data(5, 15).overlaps() == []
    here.run("b", 5, 15)
    with pytest.raises(OverlapError):
        here.run("a", 0, 10)


def _then(what: Callable[..., None]) -> Callable[..., Any]:
    real = shared_ledger.SharedLedger._mark

    def mark(*given: Any) -> Any:  # noqa: ANN401
        real(*given)
        what()

    return mark


def test_an_unverified_run_on_shared_records_is_refused_or_kept_apart(
    here: Installation, tmp_path: Path
) -> None:
    certified = here.run("a", 0, 10).ledger.path
    for rule, error in (("refuse", OverlapError), ("charge", LedgerError)):
        data = here.data(5, 15, overlap=rule)
        with pytest.raises(error, match=f"(?s)in the ledger {certified}|holds certified runs"):
            data.begin_unverified("b", StageKeys(tmp_path / rule), CLAIM)
    apart = here.data(5, 15, overlap="separate")
    apart.begin_unverified("b", StageKeys(tmp_path / "b"), CLAIM)
    assert runs_in(certified) == ["a", "a"]
    told = here.data(0, 10).account()
    assert told["total_epsilon"] == 0.02 and told["record_total_epsilon"] == "infinity"
    with pytest.raises(OverlapError, match="has no bound.*--overlap separate"):
        here.run("c", 12, 20)
    with pytest.raises(LedgerError, match="privacy claim is not verified"):
        here.run("c", 12, 20, overlap="charge")


def test_public_data_have_no_marks(here: Installation, home: Path, tmp_path: Path) -> None:
    here.run("a", 0, 10)
    for folder in ("one", "two"):
        data = PrivateDataset(here.data(0, 10)._source, public=True)
        data.open_ledger(LIMIT, tmp_path / folder)
        stage = Stage("one", NoisySum(here.kit.Echo(), 6.0))
        data.begin(folder, StageKeys(tmp_path / folder), Plan((stage,), ADD_REMOVE))
        assert [line["kind"] for line in data.ledger.lines()] == ["open", "charge", "lineage"]
        assert data.overlaps() == [] and "record_total_epsilon" not in data.account()
    assert len(list((home / "ledgers").glob("*.marks"))) == 1
