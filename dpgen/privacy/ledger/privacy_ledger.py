"""The append-only account of one data set: what may be spent, what was charged, what ran.

A line is on disk before the records are read that it pays for, so a crash can over-count and never
under-count. Charges take a file lock: of two trainings that race for the rest of a budget, one is
refused.

A run whose privacy claim is not verified has no price. It gets a line of its own kind, after which
the data set has spent infinity; certified and unverified runs never share a ledger.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dpgen.privacy.accounting.accountant import Adjacency, Budget, epsilon_of, round_up
from dpgen.privacy.accounting.events import compose, event_from_json, leaves
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.ledger.charges import (
    Charge,
    charged_event,
    has_unverified,
    limit_of,
    lines_of_run,
    relation_of,
    spent_of,
)
from dpgen.privacy.ledger.ledger_file import LedgerFile

Lines = list[dict[str, Any]]
APART = "--ledger FILE --overlap separate begins an account of its own"


class BudgetExceeded(ValueError):
    """The charge would exceed the limit of the data set. Nothing was recorded, no record read."""


class PrivacyLedger:
    """The ledger of one data set, a JSON Lines file.

    Args:
        path: the file. It is created with its first line by `open`.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._file = path, LedgerFile(path)
        self._opening: dict[str, Any] | None = None
        self._first: dict[str, Any] | None = None

    @classmethod
    def open(
        cls, path: Path, *, adjacency: Adjacency, facts: dict[str, Any], limit: Budget
    ) -> PrivacyLedger:
        """Opens the ledger at ``path``; where there is none, one that the first charge will begin
        with these facts and this limit.

        An existing ledger keeps its own facts and limit. A new one gets a random name, by which
        released files refer to the data set: a hash of records would reveal something about them.
        Raises LedgerError when the ledger was kept under another neighbouring relation.

        Args:
            facts: public facts; without ``max_records_per_unit`` nothing could be priced.
        """
        ledger = cls(path)
        ledger._opening = {
            "kind": "open",
            "dataset": secrets.token_hex(8),
            "adjacency": adjacency,
            "facts": facts,
            "limit": {"epsilon": limit.epsilon, "delta": limit.delta},
        }
        relation_of([ledger._opening])  # refused before anything is planned on it
        ledger._first = ledger.lines()[0]
        if ledger.adjacency != adjacency:
            of_teachers = "fixed_slots" in (ledger.adjacency, adjacency)
            cure = "name another ledger" if of_teachers else f"use --adjacency {ledger.adjacency}"
            raise LedgerError(
                f"ledger {path} was opened with adjacency {ledger.adjacency!r}, this run asks "
                f"for {adjacency!r}: the two do not add up; {cure}"
            )
        return ledger

    def lines(self) -> list[dict[str, Any]]:
        """Returns every line, verified; before the first charge, the opening line to be written."""
        if self._file.exists():
            with self._file.locked() as lines:
                if lines:
                    return lines
        return [self._first_line()]

    def _opening_for(self, lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Returns the opening line if it is still to be written; the caller holds the lock.

        If two first runs race, one writes it. The other was planned on its own facts, and is
        refused when the ledger now holds different ones.
        """
        if not lines:
            return [self._first_line()]
        for name in ("facts", "adjacency"):
            if self._first is not None and lines[0][name] != self._first[name]:
                raise LedgerError(
                    f"another run has begun the ledger {self.path} meanwhile, with other {name}: "
                    f"{lines[0][name]}. Nothing was read; run the same command again to use them"
                )
        return []

    def _first_line(self) -> dict[str, Any]:
        if self._opening is None:
            raise LedgerError(f"ledger {self.path} is missing")
        return self._opening

    @property
    def dataset(self) -> str:
        return str(self.lines()[0]["dataset"])

    @property
    def facts(self) -> dict[str, Any]:
        return dict(self.lines()[0]["facts"])

    @property
    def limit(self) -> Budget:
        return limit_of(self.lines())

    def holds(self, run: str, charge: Charge) -> bool:
        """Returns whether this stage of this run is charged already."""
        key = (run, charge.label, charge.plan)
        return any(
            line["kind"] == "charge" and (line["run"], line["label"], line["plan"]) == key
            for line in self.lines()
        )

    @property
    def adjacency(self) -> Adjacency:
        return self.relation.adjacency

    @property
    def relation(self) -> Relation:
        """Returns the relation of neighbouring data sets under which every charge is priced."""
        return relation_of(self.lines())

    def spent(self) -> float:
        """Returns epsilon of everything ever charged, at the delta of the limit; infinity after an
        unverified run.
        """
        return spent_of(self.lines())

    @contextlib.contextmanager
    def locked(self) -> Iterator[list[dict[str, Any]]]:
        """Locks the ledger and yields its lines, for a caller that charges several ledgers."""
        with self._file.locked() as lines:
            yield lines

    def write(self, lines: list[dict[str, Any]], bodies: Sequence[Mapping[str, Any]]) -> None:
        """Appends lines; they are on disk when this returns. The caller holds the lock."""
        if bodies:
            self._file.append(lines, bodies)

    def charge(self, run: str, charges: Sequence[Charge]) -> None:
        """Charges stages of a run, all or none, before they first read a record.

        A stage that is charged already under the same run and plan is not charged again: a resume
        pays nothing. The same run and label under another plan raises LedgerError, because what was
        paid for is not what would run. Raises BudgetExceeded, and writes nothing, when the total
        would exceed the limit.
        """
        with self._file.locked() as lines:
            self.write(lines, self.due(lines, run, charges))

    def due(self, lines: Lines, run: str, charges: Sequence[Charge]) -> Lines:
        """Returns the lines that `charge` appends to these, none for a resume, and raises as it
        does. The caller holds the lock.
        """
        opening = self._opening_for(lines)
        if has_unverified(lines):
            raise LedgerError(
                f"the ledger {self.path} holds a run whose privacy claim is not verified: what "
                "this data set has spent has no bound, and no certified run is added to it. "
                f"Nothing was read. {APART}"
            )
        held = {
            line["label"]: line["plan"]
            for line in lines
            if line["kind"] == "charge" and line["run"] == run
        }
        for charge in charges:
            if held.get(charge.label, charge.plan) != charge.plan:
                raise LedgerError(
                    f"stage {charge.label!r} of run {run[:12]} was charged for another plan: "
                    "the configuration changed since. Start a new run folder"
                )
        new = [charge for charge in charges if charge.label not in held]
        if not new:
            return []
        limit, relation = limit_of([*opening, *lines]), relation_of([*opening, *lines])
        total = compose([charged_event(lines), *(charge.event for charge in new)])
        epsilon = epsilon_of(total, limit.delta, relation)
        if epsilon > limit.epsilon:
            before = epsilon_of(charged_event(lines), limit.delta, relation)
            raise BudgetExceeded(
                f"this data set has a limit of epsilon = {limit.epsilon:g} at delta = "
                f"{limit.delta:g}; {round_up(before):g} is spent, and with this run it would be "
                f"{round_up(epsilon):g}. Nothing was read. The limit is raised, on record, by: "
                f"dpgen ledger --raise EPSILON --ledger {self.path}"
            )
        return [*opening, *(charge.line(run) for charge in new)]

    def unverified(self, run: str, mechanism: str) -> None:
        """Notes a run whose privacy claim is not verified, before it reads a record.

        Raises LedgerError, and writes nothing, when certified runs are charged here, whose total
        would no longer be true, or when this very run was begun before: it is not resumed.
        """
        with self._file.locked() as lines:
            self.write(lines, self.due_unverified(lines, run, mechanism))

    def due_unverified(self, lines: Lines, run: str, mechanism: str) -> Lines:
        """Returns the lines that `unverified` appends to these, and raises as it does."""
        opening = self._opening_for(lines)
        if any(line["kind"] == "charge" for line in lines):
            raise LedgerError(
                f"the ledger {self.path} holds certified runs, and {mechanism} has no verified "
                "privacy claim: with it their total would have no bound. Nothing was read. "
                f"{APART}, which certifies nothing"
            )
        if any(line["kind"] == "unverified" and line["run"] == run for line in lines):
            raise LedgerError(
                f"run {run[:12]} of {mechanism} was interrupted, and a run without a verified "
                "claim is not resumed: choose another run folder"
            )
        return [*opening, {"kind": "unverified", "run": run, "mechanism": mechanism}]

    def executed(self, run: str, label: str, plan: str, start: int, stop: int) -> None:
        """Notes that releases ``start`` to ``stop - 1`` of a charged stage were made. A replayed
        span is noted again as it ran.
        """
        with self._file.locked() as lines:
            charged = [
                leaf.steps
                for line in lines
                if line["kind"] == "charge"
                and (line["run"], line["label"], line["plan"]) == (run, label, plan)
                for leaf in leaves(event_from_json(line["event"]))
            ]
            if not 0 <= start < stop:
                raise ValueError(f"start must lie in [0, stop = {stop}), got {start}")
            if stop > sum(charged):
                found = f"ran {stop} releases but {sum(charged)} were charged"
                raise LedgerError(f"stage {label!r} {found}")
            stage = {"run": run, "label": label, "plan": plan}
            self._file.append(lines, [{"kind": "executed", **stage, "start": start, "stop": stop}])

    def note(
        self, body: Mapping[str, Any], needed: Callable[[list[dict[str, Any]]], bool]
    ) -> None:
        """Appends a line that charges nothing, if ``needed`` of the lines that are there says so.

        Args:
            body: the line: its kind and fields.
            needed: asked under the same lock; may refuse by raising.
        """
        with self._file.locked() as lines:
            if not lines:
                raise LedgerError(f"ledger {self.path} is missing")
            if needed(lines):
                self._file.append(lines, [body])

    def released(self, run: str, files: Mapping[str, str]) -> None:
        """Notes the files that a run releases, before its statement covers them. The same files are
        noted once. A kill between note and statement may leave two notes; the last one counts.

        Args:
            files: SHA-256 of each, by name.
        """
        with self._file.locked() as lines:
            noted = [x["files"] for x in lines if (x["kind"], x.get("run")) == ("released", run)]
            if noted[-1:] != [dict(files)]:
                body = {"kind": "released", "run": run, "files": dict(files)}
                self._file.append(lines, [body])

    def raise_limit(self, limit: Budget) -> None:
        """Appends a higher limit, which stays on record. A limit is never lowered."""
        with self._file.locked() as lines:
            if not lines:
                raise LedgerError(f"ledger {self.path} is missing")
            current = limit_of(lines)
            if limit.epsilon < current.epsilon or limit.delta != current.delta:
                raise ValueError(
                    f"the limit must rise and keep its delta = {current.delta:g}: it is epsilon = "
                    f"{current.epsilon:g}, got epsilon = {limit.epsilon:g}, delta = {limit.delta:g}"
                )
            body = {"epsilon": limit.epsilon, "delta": limit.delta}
            self._file.append(lines, [{"kind": "limit", "limit": body}])

    def lines_of(self, run: str) -> list[dict[str, Any]]:
        """Returns the ledger's lines of one run, as `charges.lines_of_run` does."""
        return lines_of_run(self.lines(), run)
