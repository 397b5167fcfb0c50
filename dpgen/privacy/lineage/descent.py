"""Follows a charged run from its begin to its last answer, and decides which copy may continue.

The ledger decides. Of all copies of a run folder, in this process or another, the one that was
begun last holds the run's last mark, and only that one gets answers. A stage asks one question,
which it may repeat after a kill; a finished stage is never asked again.

A ledger that was copied as well is not detected, whether with the folder (the ledger of public data
lies in it) or by hand and named with ``--ledger``: each of the two copies then knows one line of
descent. It still holds that another question has other noise (`dpgen.privacy.mechanisms.noise`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dpgen.privacy.accounting.accountant import epsilon_of, round_up
from dpgen.privacy.accounting.events import compose
from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.ledger.charges import (
    Charge,
    charged_event,
    executed_releases,
    limit_of,
    relation_of,
)
from dpgen.privacy.ledger.privacy_ledger import PrivacyLedger
from dpgen.privacy.lineage.answers import Answers
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.lineage.memory import UNMARKED, Overtaken

Lines = Sequence[dict[str, Any]]


def last_mark(lines: Lines, run: str) -> str:
    """Returns the mark of the descendant of ``run`` that was begun last; "" before the first."""
    marks = [x["mark"] for x in lines if x["kind"] == "lineage" and x["run"] == run]
    return str(marks[-1]) if marks else ""


def noted(lines: Lines, kind: str, run: str, charge: Charge) -> Mapping[str, Any] | None:
    """Returns the first line of this kind about a stage of a run; None if there is none."""
    key = (kind, run, charge.label, charge.plan)
    found = (x for x in lines if x["kind"] == kind)
    return next((x for x in found if (kind, x["run"], x["label"], x["plan"]) == key), None)


class Descent:
    """A run that is begun in this process, and continues until a copy of it is begun elsewhere.

    `prepare` is called before the charge, `begin` after it.

    Args:
        ledger: ledger of the data set.
        run: id of the run.
        keys: its secret keys, with its marks beside them.
    """

    def __init__(self, ledger: PrivacyLedger, run: str, keys: StageKeys) -> None:
        self.ledger, self.run, self.keys, self._process = ledger, run, keys, os.getpid()
        self._previous = self._mark = ""
        self._held: tuple[tuple[int, int, int], list[dict[str, Any]]] | None = None
        self._entered: set[str] = set()

    def was_begun(self) -> bool:
        """Returns whether, by the ledger, this folder is the one in which the run was begun last.
        """
        last, marks = last_mark(self.ledger.lines(), self.run), self.keys.lineage.marks
        return last != "" and marks is not None and last in marks

    def prepare(self) -> None:
        """Refuses a copy that another descendant has overtaken, and stores a pending mark."""
        lines, marks = self.ledger.lines(), self.keys.lineage.marks
        last = last_mark(lines, self.run)
        if last:
            if marks is None or last not in marks:
                raise self._overtaken(lines)
            self._require_abreast(lines)
        elif marks is None:
            if any(x["kind"] == "charge" and x["run"] == self.run for x in lines):
                raise LedgerError(UNMARKED)
        elif marks.current:
            raise self._forgotten()
        self._previous, self._mark = last, self.keys.lineage.propose(last)

    def begin(self) -> None:
        """Writes the mark into the ledger, unless another descendant was begun meanwhile."""
        body = {"run": self.run, "mark": self._mark, "previous": self._previous}

        def unchanged(lines: Lines) -> bool:
            self._require(lines, self._previous)
            self._require_abreast(lines)
            return True

        self.ledger.note({"kind": "lineage", **body}, unchanged)

    def note(self, kind: str, charge: Charge, **more: str) -> None:
        """Writes a line about a stage, unless the stage has one of this kind."""

        def needed(lines: Lines) -> bool:
            self._require(lines, self._mark)
            return noted(lines, kind, self.run, charge) is None

        about = {"run": self.run, "label": charge.label, "plan": charge.plan}
        self.ledger.note({"kind": kind, **about, **more}, needed)

    def as_last(self, write: Callable[[], None]) -> None:
        """Calls ``write``, which writes beside the ledger, while no other descendant can be begun.
        Raises Overtaken when one was.
        """

        def needed(lines: Lines) -> bool:
            self._require(lines, self._mark)
            write()
            return False

        self.ledger.note({}, needed)

    def lines(self) -> list[dict[str, Any]]:
        """Returns the lines of the ledger, and reads its file again only when it has changed."""
        found = os.stat(self.ledger.path)
        seen = (found.st_ino, found.st_size, found.st_mtime_ns)
        if self._held is None or self._held[0] != seen:
            self._held = (seen, self.ledger.lines())
        return self._held[1]

    def require_last(self) -> None:
        """Raises Overtaken when another descendant has been begun since."""
        self._require(self.lines(), self._mark)

    def _require(self, lines: Lines, mark: str) -> None:
        if os.getpid() != self._process:
            # It has the mark of its parent, and neither knows what the other was answered.
            raise LedgerError(
                f"run {self.run[:12]} was begun in another process, of which this one is a fork: "
                "two of them would have two answers under one charge. Call begin here, and the run "
                "goes on here alone"
            )
        last = last_mark(lines, self.run)
        if last != mark:
            raise self._overtaken(lines) if last else self._forgotten()

    def _forgotten(self) -> LedgerError:
        return LedgerError(
            f"run {self.run[:12]} was begun on the ledger {self.ledger.path}, which knows nothing "
            "of that: it was restored to an earlier state. What it no longer shows was spent all "
            "the same. Start a new run folder, which is charged anew"
        )

    def _require_abreast(self, lines: Lines) -> None:
        """Refuses a copy that was made before a stage was finished: to begin it would stop the
        folder that went on, and the copy could not go on itself.
        """
        for line in lines:
            if line["kind"] == "finished" and line["run"] == self.run:
                if not self.keys.lineage.left(line["plan"]):
                    raise self._overtaken(lines)

    def _overtaken(self, lines: Lines) -> Overtaken:
        """Returns the error for an overtaken copy: what it would cost, and what to do."""
        limit, relation = limit_of(lines), relation_of(lines)
        own = [x for x in lines if x.get("run") == self.run]
        before = epsilon_of(charged_event(lines), limit.delta, relation)
        again = compose([charged_event(lines), charged_event(own)])
        total = round_up(epsilon_of(again, limit.delta, relation))
        last = next(x for x in reversed(lines) if x["kind"] == "lineage" and x["run"] == self.run)
        room = "which it has room for" if total <= limit.epsilon else "which it has no room for"
        return Overtaken(
            f"run {self.run[:12]} goes on elsewhere: another copy of its folder, begun at "
            f"{last['time']}, has gone further than this one, and answers of both would be two "
            "releases under one charge. Continue in that folder, or start a new run folder. That "
            "is charged anew and brings the total of this data set from epsilon = "
            f"{round_up(before):g} to {total:g} at delta = {limit.delta:g}; its limit is "
            f"{limit.epsilon:g}, {room}"
        )

    def enter(self, charge: Charge) -> None:
        """Checks that exactly this stage was charged to this run, that it is not finished, and that
        it is asked once. Both kinds of release call it.
        """
        lines = self.ledger.lines()
        if noted(lines, "charge", self.run, charge) is None:
            raise LedgerError(
                f"stage {charge.label!r} is not what was charged to run {self.run[:12]}: "
                "only stages of the plan that begin was given are answered"
            )
        self.require_unfinished(lines, charge)
        if charge.plan in self._entered:
            # Two questions under one charge.
            raise RuntimeError(
                f"stage {charge.label!r} was asked already: a second answer is a second release"
            )
        self._entered.add(charge.plan)

    def is_finished(self, charge: Charge) -> bool:
        """Returns whether a stage is finished, and is never answered again."""
        return noted(self.lines(), "finished", self.run, charge) is not None

    def require_unfinished(self, lines: Lines, charge: Charge) -> None:
        if noted(lines, "finished", self.run, charge) is not None:
            raise LedgerError(
                f"stage {charge.label!r} of run {self.run[:12]} is finished and is never answered "
                "again: start a new run folder, it will be charged anew"
            )

    def answers(self, charge: Charge) -> Answers:
        """Returns the stored digests of the questions and answers of this stage."""
        return Answers(self.ledger.path, self.run, charge.plan)

    def executed(self, charge: Charge, start: int, stop: int) -> None:
        """Notes that releases ``start`` to ``stop - 1`` of a stage were made."""
        self.ledger.executed(self.run, charge.label, charge.plan, start, stop)

    def finish(self, charge: Charge, n_releases: int) -> None:
        """Notes that a stage whose release is saved is finished, and then deletes its key."""
        self.require_last()
        lines = self.ledger.lines_of(self.run)
        if executed_releases(lines).get(charge.label, 0) < n_releases:
            # The process was killed between the last checkpoint and its note.
            self.executed(charge, 0, n_releases)
        self.keys.lineage.leave(charge.plan)
        # Raises Overtaken for a copy: the other descendant has yet to answer this stage.
        self.note("finished", charge)
        self.answers(charge).forget()
        self.keys.forget(charge.plan)
