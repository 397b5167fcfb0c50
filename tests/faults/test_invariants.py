"""Every invariant can fail: the fault that it is there for, planted, is found by it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fault_rounds import invariants
from fault_rounds.world import contents, ledgers

from dpgen.privacy.ledger.chain import GENESIS, chain
from dpgen.storage.canonical import canonical


@pytest.fixture
def finished(world: Any, training: str, tmp_path: Path) -> Path:  # noqa: ANN401
    """A place with a finished run and its ledger, to be damaged."""
    shutil.copytree(world.path / f"undisturbed train {training}", tmp_path / "place")
    return tmp_path / "place"


def rewritten(path: Path, keep: Callable[[dict[str, Any]], bool]) -> None:
    """Drops lines of a ledger as a careful forger would: chained anew, with a new head."""
    lines = [json.loads(row) for row in path.read_text().splitlines()]
    bare = [{k: v for k, v in x.items() if k not in ("prev", "hash")} for x in lines if keep(x)]
    new = chain(bare, GENESIS)
    path.write_text("".join(canonical(line) + "\n" for line in new))
    head = {"lines": len(new), "hash": new[-1]["hash"]}
    path.with_name(path.name + ".head").write_text(canonical(head))


def no_charge(line: dict[str, Any]) -> bool:
    return line["kind"] != "charge"


def found(finished: Path, touches: Path) -> dict[str, list[str]]:
    """What each invariant says of a place."""
    home = finished / "home"
    return {
        "files whole": [*invariants.files_whole(finished)],
        "statements verify": [*invariants.statements_verify(finished)],
        "nothing left over": [*invariants.nothing_left_over(finished, home)],
        "ledger whole": [*invariants.ledger_whole(home, 1.0)],
        "charged before touched": [*invariants.charged_before_touched(touches, home, finished)],
        "executed within charged": [*invariants.executed_within_charged(home)],
        "charged once": [*invariants.charged_once(home, 1)],
        "one lineage": [*invariants.one_lineage(home)],
    }


def _untouched(place: Path) -> None:
    pass


def _truncated_model(place: Path) -> None:
    path = place / "run" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _half_picture(place: Path) -> None:
    path = place / "run" / "preview.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _torn_config(place: Path) -> None:
    (place / "run" / "config.json").write_text('{"schema": ')


def _left_over(place: Path) -> None:
    (place / "run" / ".model.safetensors.7.partial").touch()


def _secrets_left(place: Path) -> None:
    """By a kill between the statement and the deletion: `verify` says the cure."""
    (place / "run" / "checkpoint").mkdir()
    (place / "run" / "checkpoint" / "run.json").write_text('{"id": "1"}')


def _secrets_left_and_more(place: Path) -> None:
    _secrets_left(place)
    (place / "run" / "mine").touch()


def _charge_removed(place: Path) -> None:
    rewritten(ledgers(place / "home")[0], no_charge)


def _line_removed(place: Path) -> None:
    path = ledgers(place / "home")[0]
    rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join([rows[0], *rows[2:]]))


def _rolled_back(place: Path) -> None:
    path = ledgers(place / "home")[0]
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def _charged_twice(place: Path) -> None:
    path = ledgers(place / "home")[0]
    rows = path.read_text().splitlines(keepends=True)
    charge = next(row for row in rows if '"kind":"charge"' in row)
    path.write_text("".join([*rows, charge]))
    rewritten(path, lambda line: True)


def _repeated(kind: str) -> Callable[[Path], None]:
    """A ledger in which the first line of a kind stands twice."""

    def damage(place: Path) -> None:
        path = ledgers(place / "home")[0]
        rows = path.read_text().splitlines(keepends=True)
        again = next(row for row in rows if f'"kind":"{kind}"' in row)
        path.write_text("".join([*rows, again]))
        rewritten(path, lambda line: True)

    damage.__name__ = f"_{kind}_twice"
    return damage


def _never_asked(place: Path) -> None:
    rewritten(ledgers(place / "home")[0], lambda line: line["kind"] != "asked")


def _marks_removed(place: Path) -> None:
    for path in (place / "home" / "ledgers").glob("*.marks"):
        path.unlink()


def _never_marked(place: Path) -> None:
    rewritten(ledgers(place / "home")[0], lambda line: line["kind"] != "marked")


def _touched_unpaid(place: Path) -> None:
    place.with_name("touches").write_text("UNPAID\n")


@pytest.mark.parametrize(
    ("damage", "finders"),
    [
        (_untouched, set()),
        (_truncated_model, {"files whole", "statements verify"}),
        (_half_picture, {"files whole", "statements verify"}),
        (_torn_config, {"files whole", "statements verify"}),
        (_left_over, {"nothing left over", "statements verify"}),
        (_secrets_left, {"nothing left over"}),
        (_secrets_left_and_more, {"nothing left over", "statements verify"}),
        (_charge_removed, {"charged before touched", "charged once", "executed within charged"}),
        (_line_removed, {"ledger whole"}),
        (_rolled_back, {"ledger whole"}),
        (_charged_twice, {"charged once", "ledger whole"}),
        (_repeated("lineage"), {"one lineage"}),
        (_repeated("asked"), {"one lineage"}),
        (_repeated("finished"), {"one lineage"}),
        (_never_asked, {"one lineage"}),
        (_marks_removed, {"ledger whole"}),
        (_never_marked, {"ledger whole"}),
        (_touched_unpaid, {"charged before touched"}),
    ],
)
def test_a_planted_fault_is_found_by_the_invariant_that_is_there_for_it(
    damage: Callable[[Path], None], finders: set[str], finished: Path
) -> None:
    damage(finished)
    complaints = found(finished, finished.with_name("touches"))
    assert {name for name, words in complaints.items() if words} >= finders
    if damage in (_untouched, _secrets_left):
        assert {name for name, words in complaints.items() if words} == finders, complaints


def test_a_set_is_whole_or_absent_and_half_of_one_is_found(tmp_path: Path) -> None:
    out = tmp_path / "set"
    assert not [*invariants.set_whole_or_absent(out, 2)]
    out.mkdir()
    (out / "images-00000.npz").write_bytes(b"half")
    assert [*invariants.set_whole_or_absent(out, 2)]
    (out / "privacy.json").write_text("{}")
    assert [*invariants.set_whole_or_absent(out, 2)]


def test_less_spent_is_found_and_more_too_where_it_must_be_the_same() -> None:
    assert [*invariants.never_under_counted(0.9, 1.0, equal=False)]
    assert [*invariants.never_under_counted(2.0, 1.0, equal=True)]
    assert not [*invariants.never_under_counted(2.0, 1.0, equal=False)]
    assert not [*invariants.never_under_counted(1.0, 1.0, equal=True)]


def test_other_bytes_than_the_undisturbed_ones_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    files = contents(tmp_path)
    assert not [*invariants.as_undisturbed(tmp_path, files)]
    (tmp_path / "a.json").write_text("{ }")
    assert [*invariants.as_undisturbed(tmp_path, files)]
    (tmp_path / "a.json").unlink()
    assert [*invariants.as_undisturbed(tmp_path, files)]


@pytest.mark.parametrize(
    ("status", "words", "fine"),
    [
        (3, "dpgen: the machine failed (no space): make space\n", True),
        (3, "Traceback (most recent call last):\ndpgen: the machine failed", False),
        (3, "", False),
        (0, "done", False),
        (-11, "dpgen: half a line", False),
    ],
)
def test_a_failure_without_a_plain_line_and_a_status_is_found(
    status: int, words: str, fine: bool
) -> None:
    assert not [*invariants.said_so(status, words)] == fine
    assert [*invariants.finishes(status, words)] or status == 0
