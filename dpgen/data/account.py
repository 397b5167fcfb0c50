"""Keeps the account of a data set: its records' identity, its ledger, and the other ledgers that
hold some of its records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, get_args

from dpgen.data.facts_refusals import other_bound, other_facts
from dpgen.data.identity import Identity, home, identify, installation_key, known_ledgers, overlap
from dpgen.data.once_public import require_never_public
from dpgen.data.silos import assigned, silos_of
from dpgen.data.sources import Source
from dpgen.images.images import PublicFacts
from dpgen.privacy.accounting.accountant import Adjacency, Budget, round_up
from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.ledger.charges import limit_of, n_runs, spent_of
from dpgen.privacy.ledger.known_ledgers import Overlap
from dpgen.privacy.ledger.privacy_ledger import PrivacyLedger
from dpgen.privacy.ledger.shared_ledger import OverlapRule, SharedLedger
from dpgen.privacy.mechanisms.silos import Silos
from dpgen.privacy.statements.certificate import finite_or_word


class AccountedData:
    """Private records, their public facts and their ledger.

    Args:
        source: the records.
        facts: what may be known about them; None declares the facts in the source's headers.
        adjacency: how neighbouring data sets differ; None takes that of the facts, or of an
            existing ledger.
        max_records_per_unit: the most records of one person; epsilon is then of a whole person.
            None takes the number in the facts, or in an existing ledger, else 1.
        ledger: a ledger file to use instead of the one found by the data set's fingerprint.
        limit: the most that this data set may ever spend; None takes the budget of its first run.
        public: declares that everyone has these records anyway, as in a benchmark: runs then do not
            add up, and every certificate says that the data were declared public.
        overlap: what `begin` does when some of the records are in other ledgers that the
            installation knows: ``refuse``; ``charge`` the run to those ledgers as well, each
            within its own limit; or keep the accounts ``separate``, and the statement says what
            they come to together. A record is recognised by its unchanged pixels alone
            (`dpgen.data.identity.identify`), and in this installation only. With ``ledger`` the
            records are declared to be a version of the data set of that ledger, and join it.
        classes_declared: whether the source's classes were named when it was opened, and not by the
            data.
        counted: the most records of a unit that the source kept, by unit ids
            (`dpgen.data.units.at_most`); None where it read no unit ids, so that
            ``max_records_per_unit`` is only a declaration.
    """

    of_teachers: ClassVar[bool] = False  # whether they are teachers in slots, and not records

    def __init__(
        self,
        source: Source,
        *,
        facts: PublicFacts | None = None,
        adjacency: Adjacency | None = None,
        max_records_per_unit: int | None = None,
        ledger: Path | None = None,
        limit: Budget | None = None,
        public: bool = False,
        overlap: OverlapRule = "refuse",
        classes_declared: bool = False,
        counted: int | None = None,
    ) -> None:
        if overlap not in get_args(OverlapRule):
            raise ValueError(
                f"overlap must be one of {', '.join(get_args(OverlapRule))}, got {overlap!r}"
            )
        declared = PublicFacts(
            source.shape, source.class_names, len(source), adjacency or "add_remove",
            1 if max_records_per_unit is None else max_records_per_unit,
            "named" if classes_declared else "declared",
            "declared" if counted is None else "enforced",
        )  # fmt: skip
        if facts is not None:
            facts = replace(facts, unit_bound=declared.unit_bound)
        self._facts, self._asked = facts or declared, max_records_per_unit
        if adjacency not in (None, self._facts.adjacency):
            raise ValueError(
                f"adjacency must be the one that the facts state, {self._facts.adjacency}, "
                f"got {adjacency}: drop it, or correct the facts"
            )
        if max_records_per_unit not in (None, self._facts.max_records_per_unit):
            raise ValueError(
                "max_records_per_unit must be the one that the facts state, "
                f"{self._facts.max_records_per_unit}, got {max_records_per_unit}: drop it, "
                "or correct the facts"
            )
        if counted not in (None, self._facts.max_records_per_unit):
            raise ValueError(
                f"the records were counted for units of at most {counted}, the facts are for "
                f"{self._facts.max_records_per_unit}: open the data with that bound"
            )
        if self._facts.relation.is_of_teachers != self.of_teachers:
            raise ValueError(
                "adjacency must be add_remove or replace_one for records, got "
                f"{self._facts.adjacency}: fixed_slots is for teachers"
            )
        if self._facts.shape != source.shape:
            raise ValueError(
                f"the facts say shape {self._facts.shape}, the data have {source.shape}: "
                "resize with --size and --channels, or correct the facts"
            )
        if self._facts.n_classes < len(source.class_names):
            raise ValueError(
                f"the facts name {self._facts.n_classes} classes, the data "
                f"{len(source.class_names)}"
            )
        if limit is not None and limit.is_open:
            limit = limit.settled(self._facts.n_records)
        self._source, self._ledger_path, self.limit = source, ledger, limit
        self._declared_public, self._overlap = public, overlap
        self._ledger: PrivacyLedger | None = None
        self._known: Identity | None = None
        self._assigned: str | None = None  # as `assigned` says, of the records of `_known`

    def __repr__(self) -> str:
        """Describes the public facts of the data, and nothing else."""
        access = "public data" if self.public else f"private; {self._facts.relation.phrase}"
        return f"{type(self).__name__}({self._facts}; {access})"

    @property
    def public(self) -> bool:
        """Returns whether the data are public, or declared public: the ledger then lies in the run
        folder and the certificate says so.
        """
        return self._source.public or self._declared_public

    @property
    def facts(self) -> PublicFacts:
        """Returns the public facts of the data."""
        return self._facts

    @property
    def silos(self) -> Silos | None:
        """Returns what is public of the silos of the records; None where they have none."""
        return silos_of(self._source)

    @property
    def ledger(self) -> PrivacyLedger:
        """Returns the data set's ledger. Raises RuntimeError before `open_ledger` was called."""
        if self._ledger is None:
            raise RuntimeError("PrivateDataset.open_ledger comes first")
        return self._ledger

    def _identify(self) -> Identity:
        if self._known is None:
            self._known = identify(self._source, installation_key())
        return self._known

    def _identity(self) -> str:
        """Returns the fingerprint; embedded data, which are public, need none."""
        return "public" if self._source.public else self._identify().fingerprint

    def _account(self) -> PrivacyLedger | SharedLedger:
        """Returns the account that runs are charged to: the ledger, and those that share records
        with it.
        """
        if self.public:
            return self.ledger
        marks = self._identify().marks  # makes the key, if there is none yet
        return SharedLedger(
            self.ledger,
            known_ledgers(),
            marks,
            rule=self._overlap,
            same=self._ledger_path is None,
            noun="teachers" if self.of_teachers else "images",
        )

    def n_shared_with(self, other: Source) -> int:
        """Counts the images of another source that are among these records, or among those that a
        count of units leaves out: for their owner only.
        """
        return overlap(self._source, other)

    def overlaps(self) -> list[Overlap]:
        """Returns the other ledgers of the installation that hold some of these records, with the
        number of different images; none for public data. For the data's owner only: the numbers
        have no noise.
        """
        account = self._account()
        return account.overlaps() if isinstance(account, SharedLedger) else []

    def open_ledger(self, limit: Budget, folder: Path) -> None:
        """Finds the ledger of this data set; writes nothing.

        Args:
            limit: limit of a new ledger, unless the data set was opened with a limit of its own.
            folder: the folder in which the ledger of public data lies.

        Raises:
            ValueError: the ledger is of other facts, or records were learned from as public.
        """
        self._known = self._assigned = None  # the records may have changed since
        limit = limit.settled(self._facts.n_records) if limit.is_open else limit
        path = self._ledger_path
        if path is None and self.public:
            path = folder / "public-ledger.jsonl"
        elif path is None:
            path = home() / "ledgers" / f"{self._identity()}.jsonl"
        ledger = PrivacyLedger.open(
            path,
            adjacency=self._facts.adjacency,
            facts=self._facts.to_dict(),
            limit=self.limit or limit,
        )
        known = PublicFacts.from_dict(ledger.facts)
        if self._asked not in (None, known.max_records_per_unit):
            raise ValueError(
                f"the ledger {path} is kept for units of at most {known.max_records_per_unit} "
                f"records, this run asks for {self._asked}: the two do not add up; use "
                f"--max-records-per-unit {known.max_records_per_unit}"
            )
        if known.unit_bound != self._facts.unit_bound:
            raise ValueError(other_bound(path, known))
        if known != self._facts:
            # The first facts stay: a number of records that followed the data would publish it. A
            # number of teachers is public, and that of their slots.
            if self._facts.origin == "stated" or self.of_teachers or (
                known.shape, known.class_names
            ) != (self._facts.shape, self._facts.class_names):
                raise ValueError(other_facts(path, known, self._facts))
            self._facts = known
        if not self.public:
            self._require_unlearned()
        self._ledger = ledger

    def _require_unlearned(self) -> None:
        """Refuses records that a network of this installation has learned from as public ones."""
        require_never_public(self._source)

    def _require_same_records(self) -> None:
        """Refuses records that are not those of the open ledger."""
        before, path = self._known, self.ledger.path
        self._known = self._assigned = None
        if before is not None and self._identify().fingerprint != before.fingerprint:
            self._known = before
            raise LedgerError(
                f"the records changed since their ledger {path} was opened, and a charge to it "
                "would not cover all of them: call open_ledger again, which finds the ledger of "
                "the records as they are now"
            )

    def _owner(self, run: str) -> str:
        """Returns the identity that a run's keys are bound to: run, ledger, records and silos.

        Records are part of it because --ledger can name the ledger of data that have since changed.
        """
        if self._assigned is None:
            self._assigned = assigned(self._source)
        return f"{run} {self.ledger.dataset} {self._identity()}{self._assigned}"

    def account(self, lines: Sequence[dict[str, Any]] | None = None) -> dict[str, Any]:
        """Summarises the data set's whole ledger for the privacy statement; for private data also
        the most that any one record has spent in this and all other ledgers that hold it.

        Args:
            lines: lines of the ledger, read together with everything else that is stated; None
                reads them now.
        """
        lines = self.ledger.lines() if lines is None else lines
        limit, account = limit_of(lines), self._account()
        told = {
            "name": lines[0]["dataset"],
            "ledger": self._place(),
            "runs": n_runs(lines),
            "total_epsilon": round_up(spent_of(lines)),
            "limit": {"epsilon": limit.epsilon, "delta": limit.delta},
        }
        if isinstance(account, SharedLedger):
            told["record_total_epsilon"] = finite_or_word(round_up(account.most_spent()))
        return told

    def _place(self) -> str:
        if self._ledger_path is not None:  # a named ledger, in which runs add up
            return "installation"
        if self._source.public:
            return "run folder (public data)"
        if self._declared_public:
            return "run folder (declared public data by whoever ran the training)"
        return "installation"
