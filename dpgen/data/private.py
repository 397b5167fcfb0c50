"""Private images behind two doors. There is no length, no index and no iteration; nothing comes out
but released values.

A third door, `PrivateDataset.unprotected_records`, is for the negative controls: it is locked
unless the run was begun, and noted in the ledger, as one without a verified claim.

`PrivateDataset.release` answers a `NoisySum`, `PrivateDataset.steps` a `NoisySGD`. Both insist on a
charge in the data set's ledger before the first record is touched. Methods never see a record: they
hand in functions of one record and get noised sums back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from dpgen.data.classes import Classes, check_declared
from dpgen.data.identity import Identity, home, identify, installation_key, known_ledgers
from dpgen.data.images import PublicFacts, to_float
from dpgen.data.location import Split
from dpgen.data.sources import Source, open_source
from dpgen.privacy.accounting import Adjacency, Budget, round_up
from dpgen.privacy.chain import LedgerError
from dpgen.privacy.charges import Charge, limit_of, n_runs, spent_of
from dpgen.privacy.descent import Descent
from dpgen.privacy.keys import StageKeys
from dpgen.privacy.known_ledgers import Overlap
from dpgen.privacy.ledger import PrivacyLedger
from dpgen.privacy.mechanisms import NoisySGD, NoisyStep, NoisySum, Records
from dpgen.privacy.noise import NoiseSource
from dpgen.privacy.notice import Claim
from dpgen.privacy.plan import Plan, Stage
from dpgen.privacy.relation import Relation
from dpgen.privacy.shared_ledger import OverlapRule, SharedLedger
from dpgen.privacy.statement import finite_or_word
from dpgen.privacy.witness import StageWitness


class _Records:
    """Rows by slot, as mechanisms read them. A label outside the declared classes makes a record
    count as nothing.
    """

    def __init__(self, source: Source, facts: PublicFacts) -> None:
        self._source, self._n_classes = source, facts.n_classes
        self.n_slots = len(source)

    def read(self, slots: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        pixels, labels = self._source.read(slots)
        valid = (labels >= 0) & (labels < self._n_classes)
        return to_float(pixels), torch.where(valid, labels, 0), valid


class PrivateDataset:
    """Private records, their public facts and their ledger.

    Args:
        source: the records.
        facts: what may be known about them; ``None`` declares what the source's headers say.
        max_records_per_unit: the most records of one person; epsilon is then of a whole person.
            ``None`` takes what the facts, or a ledger that there is already, say, else 1.
        ledger: a ledger file to use instead of the one found by the data set's fingerprint.
        limit: the most that this data set may ever spend; ``None`` takes the budget of its first
            run.
        public: declares that everyone has these records anyhow, as in a benchmark: runs do not add
            up then, and every certificate says who says so.
        overlap: what `begin` does when some of the records are in other ledgers that the
            installation knows: ``refuse``; ``charge`` the run to those ledgers as well, each
            within its own limit; or keep the accounts ``separate``, and the statement says what
            they come to together. A record is recognised by its unchanged pixels alone
            (`dpgen.data.identity.identify`), and in this installation only. With ``ledger`` the
            records are declared to be a version of the data set of that ledger, and join it.
        classes_declared: whether the source's classes were named by whoever opened it, and not by
            the data.
    """

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
    ) -> None:
        if overlap not in get_args(OverlapRule):
            raise ValueError(
                f"overlap must be one of {', '.join(get_args(OverlapRule))}, got {overlap!r}"
            )
        declared = PublicFacts(
            source.shape, source.class_names, len(source), adjacency or "add_remove",
            1 if max_records_per_unit is None else max_records_per_unit,
            "named" if classes_declared else "declared",
        )  # fmt: skip
        self._facts, self._asked = facts or declared, max_records_per_unit
        if adjacency not in (None, self._facts.adjacency):
            raise ValueError(
                f"adjacency must be the one that the facts state, {self._facts.adjacency}, "
                f"got {adjacency}: leave it away, or correct the facts"
            )
        if max_records_per_unit not in (None, self._facts.max_records_per_unit):
            raise ValueError(
                "max_records_per_unit must be the one that the facts state, "
                f"{self._facts.max_records_per_unit}, got {max_records_per_unit}: leave it away, "
                "or correct the facts"
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
        self._source, self._ledger_path, self.limit = source, ledger, limit
        self._declared_public, self._overlap = public, overlap
        self._ledger: PrivacyLedger | None = None
        self._run: Descent | None = None
        self._unverified: tuple[StageKeys, Claim] | None = None
        self._witnesses: dict[str, StageWitness] = {}
        self._known: Identity | None = None
        self._used = False  # whether a run was begun since the records were identified

    @property
    def public(self) -> bool:
        """True only for data that everyone has, or that are said to be so: the ledger then lies in
        the run folder and the certificate says so.
        """
        return self._source.public or self._declared_public

    @property
    def facts(self) -> PublicFacts:
        return self._facts

    @property
    def ledger(self) -> PrivacyLedger:
        if self._ledger is None:
            raise RuntimeError("PrivateDataset.open_ledger comes first")
        return self._ledger

    def _identify(self) -> Identity:
        if self._known is None:
            self._known = identify(self._source, installation_key())
        return self._known

    def _look_again(self) -> None:
        """Forgets who the records are once a run was begun on them: they may have changed since."""
        if self._used:
            self._known, self._used = None, False

    def _identity(self) -> str:
        """The fingerprint; embedded data, which have nothing to hide, need none."""
        return "public" if self._source.public else self._identify().fingerprint

    def _account(self) -> PrivacyLedger | SharedLedger:
        """What runs are charged to: the ledger, and the others that share records with it."""
        if self.public:
            return self.ledger
        marks = self._identify().marks  # draws the key, if nobody has
        return SharedLedger(
            self.ledger,
            known_ledgers(),
            marks,
            rule=self._overlap,
            same=self._ledger_path is None,
        )

    def overlaps(self) -> list[Overlap]:
        """The other ledgers of the installation that hold some of these records, with how many
        different images; none of public data. For the owner's eyes: no noise is on it.
        """
        account = self._account()
        return account.overlaps() if isinstance(account, SharedLedger) else []

    def open_ledger(self, limit: Budget, folder: Path) -> None:
        """Finds the ledger of this data set; writes nothing.

        Args:
            limit: of a new ledger, unless the data set was opened with a limit of its own.
            folder: where the ledger of public data lies.
        """
        self._look_again()
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
        if known != self._facts:
            # The first facts stay: a count that follows the data would publish it, run after run.
            if self._facts.origin == "stated" or (known.shape, known.class_names) != (
                self._facts.shape,
                self._facts.class_names,
            ):
                raise ValueError(_other_facts(path, known, self._facts))
            self._facts = known
        self._ledger = ledger

    def begin(self, run: str, keys: StageKeys, plan: Plan) -> None:
        """Charges every stage of ``plan`` to the data set, all or none, before anything is read.

        Raises OverlapError, and charges nothing, when records are shared with other ledgers and
        ``overlap`` says to refuse.

        Args:
            run: id of the run; a run that was charged before pays nothing again.
            keys: the run's secret keys; they must belong to this data set.
            plan: what the run will do.

        Raises:
            BudgetExceeded: there is no room for the plan.
            Overtaken: these keys are a copy, and the run has been begun elsewhere since.
            LedgerError: the keys belong to other data, or the plan is not what was charged.
        """
        if plan.relation != self.ledger.relation:
            raise ValueError(
                f"the plan is for {Relation.of(plan.relation).phrase}, the ledger of the data set "
                f"for {self.ledger.relation.phrase}"
            )
        self._require_same_records()
        descent = Descent(self.ledger, run, keys)
        keys.check(self._owner(run), tied=descent.was_begun())
        descent.prepare()
        for stage in plan.stages:
            if not self.ledger.holds(run, stage.charge):
                keys.create(stage.charge.plan)
        self._account().charge(run, [stage.charge for stage in plan.stages])
        # After the charge, which settles the ledger's name, and before the first touch.
        keys.bind(self._owner(run))
        descent.begin()
        self._run = descent

    def begin_unverified(self, run: str, keys: StageKeys, claim: Claim) -> None:
        """Notes in the ledger, before anything is read, a run without a verified privacy claim.

        From that line on what the data set has spent is infinite, and certified runs are refused.

        Args:
            run: id of the run; one that was begun before is refused, it is not resumed.
            keys: the run's secret keys.
            claim: what the run does.
        """
        self._require_same_records()
        keys.check(self._owner(run))
        self._account().unverified(run, claim.mechanism)
        keys.create(claim.plan)
        keys.bind(self._owner(run))
        self._unverified = (keys, claim)

    def unprotected_records(self, claim: Claim) -> tuple[Records, NoiseSource]:
        """The raw records, and the noise that a published mechanism puts on what it makes of them.

        NOTHING HERE IS PRIVATE: for modes that carry a notice instead of a certificate. Opens once,
        and only for the claim that `begin_unverified` has put on record.
        """
        if self._unverified is None or self._unverified[1] != claim:
            raise RuntimeError(
                "raw records are given to no run but one that PrivateDataset.begin_unverified has "
                "noted in the ledger, and once"
            )
        keys, _ = self._unverified
        self._unverified = None
        return _Records(self._source, self._facts), keys.noise(claim.plan)

    def _require_same_records(self) -> None:
        """Ends the run before, and refuses records that are not those of the open ledger."""
        self._run = self._unverified = None
        before, path = self._known, self.ledger.path
        self._look_again()
        self._used = True
        if before is not None and self._identify().fingerprint != before.fingerprint:
            self._known = before
            raise LedgerError(
                f"the records changed since their ledger {path} was opened, and what is charged "
                "there would not be charged to all of them: call open_ledger again, which finds "
                "the ledger of the records as they are now"
            )

    def _owner(self, run: str) -> str:
        """Whom the keys serve. Records too: under --ledger, one ledger may be given to data that
        changed since.
        """
        return f"{run} {self.ledger.dataset} {self._identity()}"

    def account(self, lines: Sequence[dict[str, Any]] | None = None) -> dict[str, Any]:
        """What the data set's whole ledger says, for the privacy statement; of private data also
        what any one record has spent at most in this and all other ledgers that hold it.

        Args:
            lines: of the ledger, as they were read together with what else is stated; ``None``
                reads them.
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
        if self._ledger_path is not None:  # named, so runs add up whoever else has the records
            return "installation"
        if self._source.public:
            return "run folder (public data)"
        if self._declared_public:
            return "run folder (declared public data by whoever ran the training)"
        return "installation"

    def _stage(self, label: str, mechanism: NoisySGD | NoisySum) -> Stage:
        return Stage(label, mechanism, self.ledger.relation.max_records_per_unit)

    def _enter(self, label: str, mechanism: NoisySGD | NoisySum) -> tuple[Descent, Charge]:
        """The check behind both doors; nothing is read yet."""
        if self._run is None:
            raise RuntimeError(
                "no record is touched before PrivateDataset.begin has charged the run"
            )
        charge = self._stage(label, mechanism).charge
        self._run.enter(charge)
        return self._run, charge

    def noise(self, keys: StageKeys, plan: str) -> NoiseSource:
        """The one place where a stage's randomness comes from; a replay has another."""
        return keys.noise(plan)

    def release(self, mechanism: NoisySum, *, label: str) -> dict[str, Tensor]:
        """The noised sum over all records of a clipped statistic: one release."""
        run, charge = self._enter(label, mechanism)
        records, noise = _Records(self._source, self._facts), self.noise(run.keys, charge.plan)
        tables = mechanism.release(records, noise, witness=StageWitness(run, charge))
        run.executed(charge, 0, 1)
        return tables

    def steps(
        self,
        mechanism: NoisySGD,
        *,
        label: str,
        start: int = 0,
        micro_batch: int = 16,
        device: torch.device | str = "cpu",
    ) -> Iterator[NoisyStep]:
        """Noisy gradient steps ``start`` to ``mechanism.n_steps - 1``.

        Args:
            label: the name the stage was charged by.
            start: the first step to run; a resumed stage starts behind the steps its checkpoint
                holds, and a step run again gives the same answer again.
            micro_batch: records whose gradients are held at once. It changes memory, speed and the
                rounding of sums, so it is a part of what is asked: a resume keeps it.
            device: where gradients are computed.
        """
        run, charge = self._enter(label, mechanism)
        noise = self.noise(run.keys, charge.plan)
        records, witness = _Records(self._source, self._facts), StageWitness(run, charge)
        self._witnesses[label] = witness
        if start:
            run.executed(charge, 0, start)
        done, forgiven = start, tuple[type[OSError], ...]()
        try:
            for step in mechanism.steps(
                records, noise, start=start, micro_batch=micro_batch, device=torch.device(device),
                witness=witness,
            ):  # fmt: skip
                # Before it is handed out: whoever stops in the middle may have its answer.
                done = step.index + 1
                yield step
        except GeneratorExit:
            # Nobody hears a failure now. What is lost is a note, not a charge: a resume writes it.
            forgiven = (OSError,)
            raise
        finally:
            if done > start:
                with contextlib.suppress(*forgiven):
                    run.executed(charge, start, done)

    def noted_micro_batch(self, label: str, mechanism: NoisySGD) -> int | None:
        """The micro-batch of a stage that gave an answer before it was stopped, which a resume
        keeps; None where it has given none, and any will do.
        """
        if self._run is None:
            return None
        return StageWitness(self._run, self._stage(label, mechanism).charge).noted_micro_batch()

    def saving(self, label: str, stop: int) -> None:
        """Must be called before a state is saved that holds the answers of steps 0 to ``stop - 1``:
        whoever has that state has seen them, and a step among them is never asked anything else.

        Args:
            label: of a stage whose `steps` run.
        """
        self._witnesses[label].saving(stop)

    def finish(self, label: str, mechanism: NoisySGD | NoisySum) -> None:
        """Notes that a stage whose release is saved is finished, and deletes its key: it can never
        be answered again, here or anywhere.
        """
        if self._run is not None:
            self._run.finish(self._stage(label, mechanism).charge, mechanism.n_releases)


def _other_facts(path: Path, known: PublicFacts, facts: PublicFacts) -> str:
    """What to tell whose facts are not those that the ledger of the data set holds."""
    cures = []
    if known.shape != facts.shape:
        depth, height, width = known.shape
        size = f"--size {height} " if height == width else ""
        cures.append(f"open the data as they were then ({size}--channels {depth})")
    if known.class_names != facts.class_names:
        cures.append(f"name the {known.n_classes} classes as they were then (--classes)")
    if facts.origin == "stated":
        cures.append("state these facts in the file of --facts, or drop --facts to use them")
    return (
        f"the ledger {path} holds other facts for this data set: {known.to_dict()}, got "
        f"{facts.to_dict()}: {', '.join(cures)}. Under other facts they can have an account of "
        "their own, which is charged beside this one: --ledger NEWFILE --overlap charge"
    )


def open_images(
    location: str | Path | Any,  # noqa: ANN401
    *,
    split: Split = "train",
    size: int | None = None,
    channels: int | None = None,
    value_range: tuple[float, float] | None = None,
    facts: PublicFacts | None = None,
    adjacency: Adjacency | None = None,
    max_records_per_unit: int | None = None,
    ledger: str | Path | None = None,
    limit: Budget | None = None,
    public: bool = False,
    overlap: OverlapRule = "refuse",
    classes: Classes | None = None,
) -> PrivateDataset:
    """Opens private images.

    Args:
        location: an embedded name (``digits``), a path to IDX, npz, Parquet, WebDataset or a folder
            of images, a torch Dataset, a Hugging Face dataset, or an `Images`.
        split: which records: train, test or all.
        size: short side and crop, in pixels, of data of mixed sizes.
        channels: 1 or 3 converts.
        value_range: (low, high) of float arrays.
        facts, max_records_per_unit, ledger, limit, public, overlap: as for `PrivateDataset`.
        classes: how many classes there are, or their names, of data with labels that do not say
            (IDX, an npz without class_names, tensors). The facts may name them instead. They are
            published, so they are never counted in the labels; a label beyond them is an error.
    """
    if classes is not None and facts is not None:
        check_declared(classes, facts.class_names, name="the facts")
    source = open_source(
        location, split=split, size=size, channels=channels, value_range=value_range,
        classes=classes if facts is None else None,
        else_classes=None if facts is None else facts.class_names,
    )  # fmt: skip
    return PrivateDataset(
        source,
        facts=facts,
        adjacency=adjacency,
        max_records_per_unit=max_records_per_unit,
        ledger=Path(ledger) if ledger else None,
        limit=limit,
        public=public,
        overlap=overlap,
        classes_declared=source.classes_declared,
    )
