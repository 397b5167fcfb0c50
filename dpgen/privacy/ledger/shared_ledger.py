"""The ledger of one data set together with every known ledger that holds some of its records.

A record that is in two data sets spends budget in both, so a run is charged to every known ledger
that holds a record of its data, or it is refused. The order on disk, under a lock that keeps other
runs of the installation from beginning:

    1. the open line of a new ledger, which settles its name
    2. the marks of the records
    3. the charge in the other ledgers, one after the other
    4. the charge in the data set's own ledger, with the name of the block of marks

Every limit is checked before the first of these. A crash in between leaves marks or charges of a
run that read nothing: spending is over-counted and never under-counted. The data set's own ledger
is charged last, so a run that is charged there is charged in all of them, and resuming it pays
nothing. A run that is not charged there is begun again, and ledgers that hold it already are not
charged twice.

Records are recognised by unchanged pixels under one installation's key. A record is not recognised
if one of its pixels changed, if it was resized, cropped or compressed again, or if only another
installation knows it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Literal

import numpy as np

from dpgen.privacy.accounting.accountant import round_up
from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.ledger.charges import Charge, limit_of, spent_of
from dpgen.privacy.ledger.known_ledgers import KnownLedgers, Overlap
from dpgen.privacy.ledger.privacy_ledger import BudgetExceeded, PrivacyLedger

OverlapRule = Literal["refuse", "charge", "separate"]
SPENT = ("charge", "unverified")
Lines = list[dict[str, Any]]
Due = Callable[[PrivacyLedger, Lines], Lines]  # returns the lines that a run appends to a ledger


class OverlapError(LedgerError):
    """The data share records with data sets of other ledgers, and ``--overlap`` does not say what
    to do.
    """


class SharedLedger:
    """Charges a run to its own ledger and to those that share records with it, all or none.

    Args:
        own: the ledger of the data set.
        known: the ledgers of the installation.
        marks: marks of the records, (N,) uint64, distinct and in ascending order.
        rule: what to do if other ledgers hold some of the records: ``refuse`` the run, ``charge``
            it to them as well, or keep the accounts ``separate``.
        same: whether ``own`` was found by the fingerprint of exactly these records.
        noun: what the records are called in a refusal.
    """

    def __init__(
        self,
        own: PrivacyLedger,
        known: KnownLedgers,
        marks: np.ndarray,
        *,
        rule: OverlapRule,
        same: bool,
        noun: str = "images",
    ) -> None:
        self._own, self._known, self._marks = own, known, marks
        self._rule, self._same, self._noun = rule, same, noun

    def charge(self, run: str, charges: Sequence[Charge]) -> None:
        """Charges a run to all of the ledgers, as `PrivacyLedger.charge` does to one.

        Raises OverlapError, and charges nothing, when records are shared with other ledgers and the
        rule is to refuse; BudgetExceeded when any one ledger has no room.
        """
        if charges and all(self._own.holds(run, charge) for charge in charges):
            return
        with self._known.alone():
            self._begin(
                lambda ledger: all(ledger.holds(run, charge) for charge in charges),
                lambda ledger, lines: ledger.due(lines, run, charges),
                charges,
            )

    def unverified(self, run: str, mechanism: str) -> None:
        """Notes an unverified run in all of the ledgers, as `PrivacyLedger.unverified` does in
        one.
        """
        with self._known.alone():
            self._begin(
                lambda ledger: False,
                lambda ledger, lines: ledger.due_unverified(lines, run, mechanism),
                None,
            )

    def overlaps(self) -> list[Overlap]:
        """Returns the other ledgers that hold some of the records and were charged."""
        shared = self._known.sharing(self._marks, own=self._own.dataset)
        return [overlap for overlap in shared if _spent(overlap)]

    def most_spent(self) -> float:
        """Bounds the epsilon that any one of the records can have spent, over all runs that the
        marks show.

        Every run on data with a record in common was charged to a ledger that holds that record's
        mark, so it is enough to count the charges of all ledgers that share a record, each once.
        They are priced together, at the delta and under the relation of the data set's own ledger.
        """
        charged: dict[tuple[str, str, str], dict[str, Any]] = {}
        for ledger in (self._own, *(PrivacyLedger(overlap.path) for overlap in self.overlaps())):
            for line in ledger.lines():
                if line["kind"] in SPENT:
                    charged[line["kind"], line["run"], line.get("label", "")] = line
        return spent_of(self._own.lines(), charged=list(charged.values()))

    def _begin(
        self,
        holds: Callable[[PrivacyLedger], bool],
        due: Due,
        charges: Sequence[Charge] | None,
    ) -> None:
        self._require_original()
        self._remember()
        shared = {PrivacyLedger(overlap.path): overlap for overlap in self.overlaps()}
        others = {ledger: shared[ledger] for ledger in shared if not holds(ledger)}
        if others and self._rule == "refuse":
            raise OverlapError(self._refusal(others, charges))
        if self._rule == "separate":
            others = {}
        with ExitStack() as stack:
            ledgers = sorted((self._own, *others), key=lambda ledger: ledger.path.resolve())
            lines = {ledger: stack.enter_context(ledger.locked()) for ledger in ledgers}
            bodies = {}
            for ledger in (*others, self._own):
                try:
                    bodies[ledger] = due(ledger, lines[ledger])
                except BudgetExceeded as error:
                    if ledger is self._own:
                        raise
                    raise BudgetExceeded(f"{others[ledger]}: {error}") from None
            marked = self._mark(lines[self._own], bodies[self._own])
            for ledger in others:
                ledger.write(lines[ledger], bodies[ledger])
            self._own.write(lines[self._own], [*marked, *bodies[self._own]])

    def _mark(self, lines: Lines, bodies: Lines) -> Lines:
        """Writes the marks of the records to disk, and returns the line that names them. The open
        line of a new ledger is taken from ``bodies`` and written first.
        """
        if not lines:
            self._own.write(lines, [bodies.pop(0)])
        file = self._known.file_of(lines[0]["dataset"])
        block = file.add(self._known.place_of(self._own.path), self._marks)
        key = self._known.key
        return [{"kind": "marked", "key": key, "block": block, "declared": not self._same}]

    def _remember(self) -> None:
        """Adds marks to the own ledger if it was charged before it had any, or lost them, and these
        are its records; also when the run is then refused.
        """
        ledger = self._known.glance(self._own.path)
        if ledger.dataset is None:
            return
        if ledger.missing and (ledger.declared or not self._same):
            raise LedgerError(self._known.lost_marks(ledger))
        for name in ledger.missing:
            file = self._known.file_of(ledger.dataset)
            file.add(self._known.place_of(self._own.path), self._marks, name=name)
        if ledger.marks is None and not ledger.missing and self._same:
            with self._own.locked() as lines:
                self._own.write(lines, self._mark(lines, []))

    def _require_original(self) -> None:
        """Refuses a copy of a ledger: a charge to one of the two is missing in the other."""
        held = self._known.file_of(self._own.dataset).read()
        if held is None or held.ledger == self._known.place_of(self._own.path):
            return
        before = self._known.path_at(held.ledger)
        if self._known.glance(before).dataset == self._own.dataset:
            raise LedgerError(
                f"{self._own.path} is a copy of the ledger {before}: a charge to one of them is "
                f"missing in the other. Nothing was read. Use --ledger {before}, or remove that "
                "file if this one took its place"
            )

    def _refusal(
        self, others: dict[PrivacyLedger, Overlap], charges: Sequence[Charge] | None
    ) -> str:
        told, bounded = [], charges is not None
        for ledger, overlap in others.items():
            lines = ledger.lines()
            limit, spent = limit_of(lines), spent_of(lines)
            bounded = bounded and math.isfinite(spent)
            would = spent_of(lines, more=charges or ())
            told.append(
                f"{overlap.told(self._noun)} (limit epsilon = {limit.epsilon:g} at delta = "
                f"{limit.delta:g}; "
                + (
                    f"{round_up(spent):g} is spent, and with this run it would be "
                    f"{round_up(would):g})"
                    if bounded
                    else "what it has spent, or would have with this run, has no bound)"
                )
            )
        version = "the data are a grown or changed version of that data set"
        if self._noun == "teachers":
            version = "these are those slots, and some of their teachers are others now"
        cures = (
            f"If {version}, --ledger "
            f"{next(iter(others)).path} adds up there; --overlap charge charges the run to every "
            "one of these ledgers; --overlap separate keeps the accounts apart, and the statement "
            "says what they come to together"
            if bounded
            else "--overlap separate keeps the accounts apart, and statements say that a record of "
            "these data can have spent without bound"
        )
        return (
            f"of the {len(self._marks)} different {self._noun} of these data, {'; '.join(told)}. "
            "Each spends its budget in every data set that it is in, so nothing was read. "
            f"{cures}"
        )


def _spent(overlap: Overlap) -> bool:
    """Returns whether anything was charged to a ledger. Raises LedgerError if the ledger cannot be
    read.
    """
    try:
        lines = PrivacyLedger(overlap.path).lines()
        if lines[0]["dataset"] != overlap.dataset:
            raise LedgerError(f"ledger {overlap.path} is now that of another data set")
    except LedgerError as error:
        raise LedgerError(
            f"{overlap}, and what that has spent cannot be read: {error}"
        ) from None
    return any(line["kind"] in SPENT for line in lines)
