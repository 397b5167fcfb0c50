from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpgen.privacy.accounting.accountant import Budget, epsilon_of
from dpgen.privacy.accounting.events import GaussianLeaf, compose, leaves
from dpgen.privacy.ledger import ledger_file
from dpgen.privacy.ledger import privacy_ledger as module
from dpgen.privacy.ledger.chain import GENESIS, SCHEMA, LedgerError, chain, check_chain, parse_lines
from dpgen.privacy.ledger.charges import Charge, charged_event, has_unverified, n_runs, plan_hash
from dpgen.privacy.ledger.privacy_ledger import BudgetExceeded, PrivacyLedger
from dpgen.storage.canonical import canonical, digest
from dpgen.storage.durable import held_alone, replace_durably
from tests.relations import ADD_REMOVE

# Names that are no ASCII, and hold what Python takes for the end of a line.
NAMES = ["\u00e9t\u00e9", "a\u2028b\x85c"]
FACTS = {"class_names": NAMES, "n_records": 100, "max_records_per_unit": 1}
LIMIT = Budget(3.0, 1e-5)


def charge(label: str = "teacher", multiplier: float = 8.0, steps: int = 4) -> Charge:
    event = GaussianLeaf(1.0, multiplier, steps).event
    return Charge(label, plan_hash(label, event, {"m": multiplier}), event)


def reopen(path: Path, limit: Budget = LIMIT) -> PrivacyLedger:
    return PrivacyLedger.open(path, adjacency="add_remove", facts=FACTS, limit=limit)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledgers" / "data.jsonl"


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """mu instead of epsilon: the ledger's own logic does not depend on the accountant's."""

    def mu(event: Any, delta: float, adjacency: str) -> float:  # noqa: ANN401
        return math.sqrt(sum(x.steps / x.noise_multiplier**2 for x in leaves(event)))

    monkeypatch.setattr(module, "epsilon_of", mu)


def charges_in(path: Path) -> list[tuple[str, str]]:
    lines = reopen(path).lines()
    return [(line["run"], line["label"]) for line in lines if line["kind"] == "charge"]


def test_opening_writes_nothing_and_the_first_charge_writes_both_lines(path: Path) -> None:
    ledger = reopen(path)
    assert ledger.facts == FACTS
    assert ledger.limit == LIMIT
    assert ledger.spent() == 0
    assert not path.exists()
    ledger.charge("run", [charge()])
    assert [line["kind"] for line in ledger.lines()] == ["open", "charge"]


def test_what_is_spent_is_the_price_of_everything_ever_charged(path: Path) -> None:
    ledger = reopen(path)
    ledger.charge("one", [charge("a", 8.0, 4), charge("b", 6.0, 1)])
    ledger.charge("two", [charge("a", 8.0, 4)])
    whole = [GaussianLeaf(1.0, 8.0, 8).event, GaussianLeaf(1.0, 6.0, 1).event]
    expected = epsilon_of(compose(whole), 1e-5, ADD_REMOVE)
    assert reopen(path).spent() == pytest.approx(expected, rel=1e-6)


def test_the_limit_is_the_last_charge_that_fits_and_refusing_writes_nothing(path: Path) -> None:
    """At the limit passes, above it nothing is written: the check is on the total, at its delta."""
    price = epsilon_of(GaussianLeaf(1.0, 8.0, 8).event, 1e-5, ADD_REMOVE)
    ledger = reopen(path, Budget(price, 1e-5))
    ledger.charge("one", [charge()])
    ledger.charge("two", [charge()])
    before = path.read_bytes()
    with pytest.raises(BudgetExceeded, match="Nothing was read"):
        ledger.charge("three", [charge("teacher", 100.0, 1)])
    assert path.read_bytes() == before
    short = reopen(path.with_name("other.jsonl"), Budget(price * (1 - 1e-6), 1e-5))
    with pytest.raises(BudgetExceeded):
        short.charge("one", [charge("a"), charge("b")])
    assert not short.path.exists()


def test_a_limit_at_a_smaller_delta_holds_less(path: Path) -> None:
    price = epsilon_of(charge().event, 1e-5, ADD_REMOVE)
    with pytest.raises(BudgetExceeded):
        reopen(path, Budget(price * 1.05, 1e-7)).charge("run", [charge()])


def test_stages_of_a_run_are_charged_all_or_none(path: Path, cheap: None) -> None:
    ledger = reopen(path, Budget(0.3, 1e-5))
    with pytest.raises(BudgetExceeded):
        ledger.charge("run", [charge("a", 8.0, 1), charge("b", 8.0, 6)])
    assert not path.exists()


def test_a_resume_pays_nothing_and_a_second_run_pays_again(path: Path, cheap: None) -> None:
    ledger = reopen(path)
    ledger.charge("one", [charge()])
    before = path.read_bytes()
    reopen(path).charge("one", [charge()])
    assert path.read_bytes() == before
    assert ledger.holds("one", charge())
    assert not ledger.holds("two", charge())
    assert not ledger.holds("one", charge("other"))
    ledger.charge("two", [charge()])
    assert charges_in(path) == [("one", "teacher"), ("two", "teacher")]


def test_the_same_stage_of_a_run_under_another_plan_is_refused(path: Path, cheap: None) -> None:
    ledger = reopen(path)
    ledger.charge("one", [charge()])
    for other in (charge(multiplier=9.0), charge(steps=3)):
        assert not ledger.holds("one", other)
        with pytest.raises(LedgerError, match="charged for another plan"):
            ledger.charge("one", [other])
    assert charges_in(path) == [("one", "teacher")]


def test_the_plan_hash_knows_label_event_and_settings() -> None:
    event, other = GaussianLeaf(0.1, 2.0, 5).event, GaussianLeaf(0.1, 2.0, 6).event
    hashes = {
        plan_hash("a", event, {"clip_norm": 1.0}),
        plan_hash("b", event, {"clip_norm": 1.0}),
        plan_hash("a", other, {"clip_norm": 1.0}),
        plan_hash("a", event, {"clip_norm": 2.0}),
    }
    assert len(hashes) == 4


def test_executed_releases_need_a_charge_and_stay_within_it(path: Path, cheap: None) -> None:
    ledger = reopen(path)
    c = charge(steps=4)
    ledger.charge("run", [c])
    ledger.executed("run", c.label, c.plan, 0, 3)
    ledger.executed("run", c.label, c.plan, 2, 4)
    for run, label, plan in (("x", c.label, c.plan), ("run", "x", c.plan), ("run", c.label, "x")):
        with pytest.raises(LedgerError, match="0 were charged"):
            ledger.executed(run, label, plan, 0, 1)
    with pytest.raises(LedgerError, match="ran 5 releases but 4 were charged"):
        ledger.executed("run", c.label, c.plan, 4, 5)
    for start, stop in ((-1, 2), (2, 2), (3, 2)):
        with pytest.raises(ValueError, match="start must lie in"):
            ledger.executed("run", c.label, c.plan, start, stop)
    spans = [(x["start"], x["stop"]) for x in ledger.lines() if x["kind"] == "executed"]
    assert spans == [(0, 3), (2, 4)]


def test_a_limit_only_rises_on_record_and_at_its_delta(path: Path, cheap: None) -> None:
    ledger = reopen(path)
    with pytest.raises(LedgerError, match="missing"):
        ledger.raise_limit(Budget(9.0, 1e-5))
    ledger.charge("run", [charge()])
    for worse in (Budget(2.0, 1e-5), Budget(9.0, 1e-4), Budget(9.0, 1e-6)):
        with pytest.raises(ValueError, match="the limit must rise"):
            ledger.raise_limit(worse)
    ledger.raise_limit(Budget(9.0, 1e-5))
    assert reopen(path, Budget(1.0, 1e-5)).limit == Budget(9.0, 1e-5)
    assert [line["kind"] for line in ledger.lines()] == ["open", "charge", "limit"]


def test_a_ledger_of_the_other_relation_is_refused(path: Path, cheap: None) -> None:
    reopen(path).charge("run", [charge()])
    with pytest.raises(LedgerError, match="do not add up"):
        PrivacyLedger.open(path, adjacency="replace_one", facts=FACTS, limit=LIMIT)


def test_an_existing_ledger_keeps_its_facts_limit_and_name(path: Path, cheap: None) -> None:
    first = reopen(path)
    first.charge("run", [charge()])
    again = PrivacyLedger.open(
        path, adjacency="add_remove", facts=FACTS | {"n_records": 7}, limit=Budget(99.0, 1e-3)
    )
    assert (again.facts, again.limit, again.dataset) == (FACTS, LIMIT, first.dataset)


def test_names_of_data_sets_are_random(tmp_path: Path) -> None:
    assert reopen(tmp_path / "a").dataset != reopen(tmp_path / "b").dataset


def test_files_are_for_their_owner_only(path: Path, cheap: None) -> None:
    reopen(path).charge("run", [charge()])
    assert path.parent.stat().st_mode & 0o777 == 0o700
    for file in path.parent.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file


def spoil(text: str, how: str) -> str:
    rows = [json.loads(row) for row in text.split("\n") if row]
    if how == "steps lowered":
        rows[1]["event"][0]["steps"] = 1
    elif how == "noise raised":
        rows[1]["event"][0]["noise_multiplier"] = 99.0
    elif how == "limit raised":
        rows[0]["limit"]["epsilon"] = 99.0
    elif how == "relation changed":
        rows[0]["adjacency"] = "replace_one"
    elif how == "re-hashed":
        rows[1]["event"][0]["steps"] = 1
        body = {k: v for k, v in rows[1].items() if k != "hash"}
        rows[1]["hash"] = digest(body)
    elif how == "dropped in the middle":
        del rows[1]
    elif how == "reordered":
        rows[1], rows[2] = rows[2], rows[1]
    elif how == "doubled":
        rows.insert(2, rows[1])
    elif how == "cut at the end":
        del rows[-1]
    elif how == "emptied":
        rows = []
    elif how == "another spelling":
        return "\n".join(json.dumps(row) for row in rows) + "\n"
    elif how == "re-chained":
        bodies = [{k: v for k, v in r.items() if k not in ("hash", "prev")} for r in rows]
        bodies[1]["event"][0]["steps"] = 1
        rows = chain(bodies, GENESIS)
    return "".join(canonical(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    "how",
    [
        "steps lowered",
        "noise raised",
        "limit raised",
        "relation changed",
        "re-hashed",
        "dropped in the middle",
        "reordered",
        "doubled",
        "cut at the end",
        "emptied",
        "another spelling",
        "re-chained",
    ],
)
def test_a_ledger_that_was_edited_is_refused_by_every_door(
    how: str, path: Path, cheap: None
) -> None:
    ledger = reopen(path)
    for run in ("one", "two", "three"):
        ledger.charge(run, [charge()])
    path.write_text(spoil(path.read_text(), how))
    after = path.read_bytes()
    doors: list[Callable[[], object]] = [
        ledger.lines,
        ledger.spent,
        lambda: reopen(path),
        lambda: ledger.charge("four", [charge()]),
        lambda: ledger.executed("one", charge().label, charge().plan, 0, 1),
        lambda: ledger.raise_limit(Budget(99.0, 1e-5)),
    ]
    for door in doors:
        with pytest.raises(LedgerError):
            door()
    assert path.read_bytes() == after


def test_a_ledger_rolled_back_to_an_earlier_state_is_refused(path: Path, cheap: None) -> None:
    ledger = reopen(path)
    ledger.charge("one", [charge()])
    earlier = path.read_bytes()
    ledger.charge("two", [charge()])
    path.write_bytes(earlier)
    with pytest.raises(LedgerError, match=r"has 2 lines but once had 3"):
        ledger.charge("three", [charge()])


def test_a_ledger_that_lost_its_head_or_itself_is_refused(path: Path, cheap: None) -> None:
    reopen(path).charge("one", [charge()])
    head = path.with_name(path.name + ".head")
    kept = head.read_bytes()
    head.unlink()
    with pytest.raises(LedgerError, match="lost its head"):
        reopen(path)
    for damaged in (b"", b"{}", b"[]", kept[:10]):
        head.write_bytes(damaged)
        with pytest.raises(LedgerError, match="damaged"):
            reopen(path)
    head.write_bytes(kept)
    reopen(path)
    path.unlink()
    with pytest.raises(LedgerError, match="truncated or rolled back"):
        reopen(path)


def test_a_ledger_that_begins_with_another_line_than_open_is_refused(
    path: Path, cheap: None
) -> None:
    """Chained anew with a head that fits: its first line would say the limit and the relation."""
    reopen(path).charge("one", [charge()])
    after = reopen(path).lines()[1:]
    bodies = [{k: v for k, v in line.items() if k not in ("hash", "prev")} for line in after]
    lines = chain(bodies, GENESIS)
    path.write_text("".join(canonical(line) + "\n" for line in lines))
    head = {"lines": len(lines), "hash": lines[-1]["hash"]}
    path.with_name(path.name + ".head").write_text(canonical(head))
    with pytest.raises(LedgerError, match="does not begin with an open line"):
        reopen(path)


def test_a_charge_that_no_ledger_could_be_read_with_again_is_refused_and_writes_nothing(
    path: Path, cheap: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = reopen(path)
    ledger.charge("one", [charge()])
    before = path.read_bytes()
    monkeypatch.setattr(ledger_file, "LEDGER_BYTES", len(before) + 10)
    with pytest.raises(LedgerError, match="must have at most"):
        ledger.charge("two", [charge()])
    assert path.read_bytes() == before and reopen(path).lines() == ledger.lines()


def test_nothing_is_noted_in_a_ledger_that_is_not_there(path: Path) -> None:
    with pytest.raises(LedgerError, match="is missing"):
        reopen(path).note({"kind": "asked", "run": "one"}, lambda _: True)
    assert not path.exists()


def test_the_same_files_are_noted_once_and_others_after_them(path: Path, cheap: None) -> None:
    ledger = reopen(path)
    ledger.charge("one", [charge()])
    for files in ({"a": "1"}, {"a": "1"}, {"a": "2"}, {"a": "1"}):
        ledger.released("one", files)
    noted = [line["files"] for line in ledger.lines() if line["kind"] == "released"]
    assert noted == [{"a": "1"}, {"a": "2"}, {"a": "1"}]


def test_a_torn_last_line_is_written_over_wherever_it_was_torn(path: Path, cheap: None) -> None:
    """A kill inside the write leaves the old head: whole lines count, the torn one never did."""
    head = path.with_name(path.name + ".head")
    ledger = reopen(path)
    ledger.charge("one", [charge("\u00e9t\u00e9")])
    old, old_head = path.read_bytes(), head.read_bytes()
    ledger.charge("two", [charge("\u00e9t\u00e9 a"), charge("b")])
    new = path.read_bytes()
    first_end = new.index(b"\n", len(old)) + 1
    for cut in [*range(len(old), len(new), 3), first_end, first_end - 1]:
        path.write_bytes(new[:cut])
        head.write_bytes(old_head)
        found = charges_in(path)
        expected = [("one", "\u00e9t\u00e9")]
        if cut >= first_end:
            expected.append(("two", "\u00e9t\u00e9 a"))
        assert found == expected
        if cut % 50 == 0 or new[cut - 1] >= 0x80:
            reopen(path).charge("two", [charge("\u00e9t\u00e9 a"), charge("b")])
            assert sorted(charges_in(path)) == sorted(
                [("one", "\u00e9t\u00e9"), ("two", "\u00e9t\u00e9 a"), ("two", "b")]
            )


class Killed(Exception):
    """What a kill at a system call looks like from inside."""


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
@pytest.mark.parametrize("existing", [False, True])
def test_a_kill_at_any_system_call_never_loses_what_was_acknowledged(
    call: str, existing: bool, path: Path, cheap: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if existing:
        reopen(path).charge("before", [charge()])
    real, survived = getattr(os, call), False
    for at in range(1, 20):
        seen = 0

        def interrupted(*args: Any, at: int = at, **kwargs: Any) -> Any:  # noqa: ANN401
            nonlocal seen
            seen += 1
            if seen == at:
                raise Killed
            return real(*args, **kwargs)

        run = f"run {at}"
        ledger = reopen(path)
        with monkeypatch.context() as patch:
            patch.setattr(os, call, interrupted)
            try:
                ledger.charge(run, [charge()])
                survived = True
            except Killed:
                survived = False
        assert set(charges_in(path) if path.exists() else []) >= (
            {("before", "teacher")} if existing else set()
        )
        if survived:
            assert (run, "teacher") in charges_in(path)
            break
        reopen(path).charge(run, [charge()])
        assert charges_in(path).count((run, "teacher")) == 1
    assert survived
    assert at > 1


def test_the_line_is_on_disk_when_the_charge_returns(
    path: Path, cheap: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, int]] = []
    real = os.fsync

    def fsync(file: int) -> None:
        real(file)
        status = os.fstat(file)
        synced.append((status.st_ino, status.st_size))

    monkeypatch.setattr(os, "fsync", fsync)
    ledger = reopen(path)
    for run in ("one", "two"):
        ledger.charge(run, [charge()])
        status = path.stat()
        assert (status.st_ino, status.st_size) in synced
    assert path.parent.stat().st_ino in {inode for inode, _ in synced}


RACER = """
import math, sys
from pathlib import Path
from dpgen.privacy.ledger import privacy_ledger as module
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.accounting.events import GaussianLeaf, leaves
module.epsilon_of = lambda e, d, a: sum(x.steps for x in leaves(e)) / 1
path, name = Path(sys.argv[1]), sys.argv[2]
ledger = module.PrivacyLedger.open(
    path, adjacency="add_remove", facts={"max_records_per_unit": 1}, limit=Budget(50.0, 1e-5))
event = GaussianLeaf(1.0, 10.0, 1).event
print("ready", flush=True)
sys.stdin.readline()
passed = 0
for i in range(100):
    try:
        ledger.charge(f"{name} {i}", [module.Charge("s", f"{name}{i}", event)])
        passed += 1
    except module.BudgetExceeded:
        pass
print(passed)
"""


def test_of_two_processes_that_race_exactly_as_many_charges_pass_as_fit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in "ab"
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    passed = [int(racer.communicate(timeout=60)[0]) for racer in racers]
    lines = parse_lines(path.read_text(), "ledger")
    check_chain(lines, "ledger")
    assert sum(passed) == 50
    assert sum(line["kind"] == "charge" for line in lines) == 50
    assert sum(line["kind"] == "open" for line in lines) == 1


def test_a_copy_of_the_lines_of_one_run_holds_no_other_run(path: Path, cheap: None) -> None:
    ledger = reopen(path)
    ledger.charge("one", [charge()])
    ledger.charge("two", [charge()])
    assert [line.get("run") for line in ledger.lines_of("two")] == [None, "two"]


def test_a_line_that_is_none_is_refused_with_its_number() -> None:
    line = canonical(chain([{"schema": SCHEMA, "kind": "open"}], GENESIS)[0])
    assert len(parse_lines(line + "\n", "x")) == 1
    for bad in ("", "{}", "[]", "null", "{", line[:-1], line.replace("open", "opem"), '{"hash":1}'):
        with pytest.raises(LedgerError, match="x, line 2"):
            parse_lines(f"{line}\n{bad}\n", "x")
    with pytest.raises(LedgerError, match="torn"):
        parse_lines(line, "x")


def test_an_unverified_run_is_a_line_of_its_own_kind_and_spends_infinity(
    path: Path, cheap: None
) -> None:
    ledger = reopen(path)
    ledger.unverified("one", "x/paper")
    lines = reopen(path).lines()
    assert [line["kind"] for line in lines] == ["open", "unverified"]
    assert (lines[1]["run"], lines[1]["mechanism"]) == ("one", "x/paper")
    assert reopen(path).spent() == math.inf
    reopen(path).unverified("two", "x/paper")
    assert n_runs(reopen(path).lines()) == 2
    assert [line["kind"] for line in reopen(path).lines_of("two")] == ["open", "unverified"]


def test_certified_and_unverified_runs_never_share_a_ledger(
    tmp_path: Path, path: Path, cheap: None
) -> None:
    reopen(path).charge("one", [charge()])
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=r"holds certified runs.* --overlap separate begins"):
        reopen(path).unverified("two", "x/paper")
    # Nor the run that is charged itself.
    with pytest.raises(LedgerError, match="holds certified runs"):
        reopen(path).unverified("one", "x/paper")
    assert path.read_bytes() == before
    other = tmp_path / "other.jsonl"
    reopen(other).unverified("one", "x/paper")
    before = other.read_bytes()
    for run in ("one", "two"):
        with pytest.raises(LedgerError, match=r"claim is not verified.* separate begins"):
            reopen(other).charge(run, [charge()])
    with pytest.raises(LedgerError, match="claim is not verified"):
        reopen(other, Budget(1e6, 1e-5)).charge("two", [])
    assert other.read_bytes() == before


def test_an_unverified_run_is_begun_once(path: Path, cheap: None) -> None:
    reopen(path).unverified("one", "x/paper")
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=r"was interrupted.* choose another run folder"):
        reopen(path).unverified("one", "x/paper")
    assert path.read_bytes() == before


def test_lines_of_an_unverified_run_have_no_price(path: Path, cheap: None) -> None:
    reopen(path).unverified("one", "x/paper")
    with pytest.raises(LedgerError, match="has no price"):
        charged_event(reopen(path).lines_of("one"))
    assert has_unverified(reopen(path).lines()) and not has_unverified(reopen(path).lines()[:1])


@pytest.mark.parametrize("unverified", [False, True])
@pytest.mark.parametrize("what", ["facts", "adjacency"])
def test_of_two_first_runs_with_other_facts_the_second_is_refused(
    what: str, unverified: bool, path: Path, cheap: None
) -> None:
    """Both open a ledger that is not there yet; each has planned on its own facts."""
    first = reopen(path)
    changed = {"facts": {**FACTS, "n_records": 101}, "adjacency": "add_remove"}
    if what == "adjacency":
        changed = {"facts": FACTS, "adjacency": "replace_one"}
    second = PrivacyLedger.open(path, limit=LIMIT, **changed)
    first.charge("one", [charge()])
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=f"with other {what}.* run the same command again"):
        if unverified:
            second.unverified("two", "x/paper")
        else:
            second.charge("two", [charge()])
    assert path.read_bytes() == before
    assert reopen(path).facts == FACTS


def test_of_two_first_runs_with_the_same_facts_both_are_charged(path: Path, cheap: None) -> None:
    first, second = reopen(path), reopen(path)
    first.charge("one", [charge()])
    second.charge("two", [charge()])
    assert charges_in(path) == [("one", "teacher"), ("two", "teacher")]
    # A ledger that was there keeps its own facts, whatever a later run would have declared.
    later = PrivacyLedger.open(
        path, adjacency="add_remove", facts=FACTS | {"n_records": 7}, limit=Budget(9.0, 1e-5)
    )
    later.charge("three", [charge()])
    assert later.facts == FACTS and later.limit == LIMIT


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_file_that_cannot_be_replaced_stays_and_leaves_no_other_beside_it(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    replace_durably(tmp_path / "file", b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OSError, match="no space"):
            replace_durably(tmp_path / "file", b"new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("file", b"old")]


def test_the_first_failure_is_told_where_what_is_half_written_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        monkeypatch.setattr(Path, "unlink", read_only)
        raise OSError(errno.ENOSPC, "no space")

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        replace_durably(tmp_path / "file", b"new")


def test_what_a_kill_left_of_a_head_goes_with_the_next_look_and_no_other_file_does(
    path: Path, cheap: None
) -> None:
    reopen(path).charge("run", [charge()])
    left = path.with_name(f".{path.name}.head.7.partial")
    others = [
        path.with_name(f".other-{path.name}.head.7.partial"),
        path.with_name(".head.7.partial"),
    ]
    for file in (left, *others):
        file.write_text("{")
    assert len(reopen(path).lines()) == 2
    assert not left.exists() and all(other.exists() for other in others)


def test_what_is_held_alone_is_refused_in_words_until_it_is_let_go(tmp_path: Path) -> None:
    with held_alone(tmp_path / "file"):
        with pytest.raises(ValueError, match="somebody has it"):
            with held_alone(tmp_path / "file", busy="somebody has it"):
                raise AssertionError
    with held_alone(tmp_path / "file", busy="somebody has it"):
        pass
