"""The marks of a finished run are one line of descent: every way to break it is seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dpgen.privacy.verification.lineage import lineage_check

Lines = list[dict[str, Any]]


def finished() -> Lines:
    """Of a run of two stages that was resumed once, between its stages."""
    def of(label: str, kind: str) -> dict[str, Any]:
        return {"kind": kind, "label": label}

    return [
        {"kind": "open"}, of("a", "charge"), of("b", "charge"),
        {"kind": "lineage", "mark": "1", "previous": ""},
        of("a", "asked"), of("a", "executed"), of("a", "finished"),
        {"kind": "lineage", "mark": "2", "previous": "1"},
        of("b", "asked"), of("b", "executed"), of("b", "finished"),
    ]  # fmt: skip


def place(lines: Lines, kind: str, label: str) -> int:
    return next(n for n, x in enumerate(lines) if (x["kind"], x.get("label")) == (kind, label))


def drop(kind: str, label: str) -> Callable[[Lines], None]:
    return lambda lines: lines.pop(place(lines, kind, label)) and None


def double(kind: str, label: str) -> Callable[[Lines], None]:
    return lambda lines: lines.append(lines[place(lines, kind, label)])


def swap(one: tuple[str, str], other: tuple[str, str]) -> Callable[[Lines], None]:
    def edit(lines: Lines) -> None:
        i, j = place(lines, *one), place(lines, *other)
        lines[i], lines[j] = lines[j], lines[i]

    return edit


def mark(number: int, **value: str) -> Callable[[Lines], None]:
    return lambda lines: [x for x in lines if x["kind"] == "lineage"][number].update(value)


def forget(lines: Lines) -> None:
    lines[:] = [x for x in lines if x["kind"] != "lineage"]


def begin_late(lines: Lines) -> None:
    """The first begin after a first answer."""
    lines.insert(place(lines, "finished", "a"), lines.pop(3))


EDITS = {
    "not asked": drop("asked", "a"),
    "not finished": drop("finished", "b"),
    "asked twice": double("asked", "a"),
    "finished twice": double("finished", "b"),
    "answered before it was asked": swap(("asked", "a"), ("executed", "a")),
    "finished before it was asked": swap(("asked", "b"), ("finished", "b")),
    "finished before it was answered": swap(("executed", "a"), ("finished", "a")),
    "a mark of another run": mark(1, previous="7"),
    "a first mark with one before": mark(0, previous="7"),
    "a mark twice": mark(1, mark="1"),
    "no begin": forget,
    "a late begin": begin_late,
}


def test_a_run_that_was_resumed_is_one_line() -> None:
    check = lineage_check(finished(), old=False)
    assert check.held and "resumed 1 times" in check.seen


def test_a_late_note_of_an_overtaken_process_contradicts_nothing() -> None:
    lines = finished()
    lines.append({"kind": "executed", "label": "a"})
    assert lineage_check(lines, old=False).held


@pytest.mark.parametrize("name", EDITS)
def test_a_broken_line_is_seen(name: str) -> None:
    lines = finished()
    EDITS[name](lines)
    assert lineage_check(lines, old=False).failed
    assert lineage_check(lines, old=True).failed


def test_only_an_earlier_version_may_leave_no_marks() -> None:
    lines = [x for x in finished() if x["kind"] in ("open", "charge", "executed")]
    assert lineage_check(lines, old=True).held is None
    assert lineage_check(lines, old=False).failed
