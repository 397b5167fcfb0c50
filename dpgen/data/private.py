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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpgen.data.classes import Classes, check_declared
from dpgen.data.identity import fingerprint, home, installation_key
from dpgen.data.images import PublicFacts, to_float
from dpgen.data.location import Split
from dpgen.data.sources import Source, open_source
from dpgen.privacy.accounting import Adjacency, Budget, round_up
from dpgen.privacy.chain import LedgerError
from dpgen.privacy.charges import executed_releases, n_runs
from dpgen.privacy.keys import StageKeys
from dpgen.privacy.ledger import PrivacyLedger
from dpgen.privacy.mechanisms import NoisySGD, NoisyStep, NoisySum, Records
from dpgen.privacy.noise import NoiseSource
from dpgen.privacy.notice import Claim
from dpgen.privacy.plan import Plan, Stage
from dpgen.privacy.relation import Relation


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
        classes_declared: bool = False,
    ) -> None:
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
        self._declared_public = public
        self._ledger: PrivacyLedger | None = None
        self._run: tuple[str, StageKeys] | None = None
        self._unverified: tuple[StageKeys, Claim] | None = None
        self._entered: set[str] = set()
        self._mark: str | None = None

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

    def _identity(self) -> str:
        """The fingerprint; embedded data, which have nothing to hide, need none."""
        if self._mark is None:
            public = self._source.public
            self._mark = "public" if public else fingerprint(self._source, installation_key())
        return self._mark

    def open_ledger(self, limit: Budget, folder: Path) -> None:
        """Finds the ledger of this data set; writes nothing.

        Args:
            limit: of a new ledger, unless the data set was opened with a limit of its own.
            folder: where the ledger of public data lies.
        """
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
                raise ValueError(
                    f"the ledger {path} holds other facts for this data set: {known.to_dict()}; "
                    "leave --facts away to use them"
                )
            self._facts = known
        self._ledger = ledger

    def begin(self, run: str, keys: StageKeys, plan: Plan) -> None:
        """Charges every stage of ``plan`` to the data set, all or none, before anything is read.

        Args:
            run: id of the run; a run that was charged before pays nothing again.
            keys: the run's secret keys; they must belong to this data set.
            plan: what the run will do.
        """
        if plan.relation != self.ledger.relation:
            raise ValueError(
                f"the plan is for {Relation.of(plan.relation).phrase}, the ledger of the data set "
                f"for {self.ledger.relation.phrase}"
            )
        keys.check(self._owner(run))
        for stage in plan.stages:
            if not self.ledger.holds(run, stage.charge):
                keys.create(stage.charge.plan)
        self.ledger.charge(run, [stage.charge for stage in plan.stages])
        # After the charge, which settles the ledger's name, and before the first touch.
        keys.bind(self._owner(run))
        self._run, self._unverified, self._entered = (run, keys), None, set()

    def begin_unverified(self, run: str, keys: StageKeys, claim: Claim) -> None:
        """Notes in the ledger, before anything is read, a run without a verified privacy claim.

        From that line on what the data set has spent is infinite, and certified runs are refused.

        Args:
            run: id of the run; one that was begun before is refused, it is not resumed.
            keys: the run's secret keys.
            claim: what the run does.
        """
        self._run = self._unverified = None
        keys.check(self._owner(run))
        self.ledger.unverified(run, claim.mechanism)
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

    def _owner(self, run: str) -> str:
        """Whom the keys serve. Records too: under --ledger, one ledger may be given to data that
        changed since.
        """
        return f"{run} {self.ledger.dataset} {self._identity()}"

    def account(self) -> dict[str, Any]:
        """What the data set's whole ledger says, for the privacy statement."""
        lines = self.ledger.lines()
        return {
            "name": lines[0]["dataset"],
            "ledger": self._place(),
            "runs": n_runs(lines),
            "total_epsilon": round_up(self.ledger.spent()),
            "limit": {"epsilon": self.ledger.limit.epsilon, "delta": self.ledger.limit.delta},
        }

    def _place(self) -> str:
        if self._source.public:
            return "run folder (public data)"
        if self._declared_public:
            return "run folder (declared public data by whoever ran the training)"
        return "installation"

    def _stage(self, label: str, mechanism: NoisySGD | NoisySum) -> Stage:
        return Stage(label, mechanism, self.ledger.relation.max_records_per_unit)

    def _enter(self, label: str, mechanism: NoisySGD | NoisySum) -> tuple[str, StageKeys, str]:
        """The check behind both doors: this very mechanism was charged to this run under this name,
        and is asked once.
        """
        if self._run is None:
            raise RuntimeError(
                "no record is touched before PrivateDataset.begin has charged the run"
            )
        run, keys = self._run
        charge = self._stage(label, mechanism).charge
        if not self.ledger.holds(run, charge):
            raise LedgerError(
                f"stage {label!r} is not what was charged to run {run[:12]}: "
                "only stages of the plan that begin was given are answered"
            )
        if charge.plan in self._entered:
            # The same noise on another question: their difference would have none.
            raise RuntimeError(
                f"stage {label!r} was asked already: a second answer is a second release"
            )
        self._entered.add(charge.plan)
        return run, keys, charge.plan

    def noise(self, keys: StageKeys, plan: str) -> NoiseSource:
        """The one place where a stage's randomness comes from; a replay has another."""
        return keys.noise(plan)

    def release(self, mechanism: NoisySum, *, label: str) -> dict[str, Tensor]:
        """The noised sum over all records of a clipped statistic: one release."""
        run, keys, plan = self._enter(label, mechanism)
        records, noise = _Records(self._source, self._facts), self.noise(keys, plan)
        tables = mechanism.release(records, noise)
        self.ledger.executed(run, label, plan, 0, 1)
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
            micro_batch: records whose gradients are held at once; changes memory and speed, not the
                result.
            device: where gradients are computed.
        """
        run, keys, plan = self._enter(label, mechanism)
        noise = self.noise(keys, plan)
        records = _Records(self._source, self._facts)
        if start:
            self.ledger.executed(run, label, plan, 0, start)
        done, forgiven = start, tuple[type[OSError], ...]()
        try:
            for step in mechanism.steps(
                records, noise, start=start, micro_batch=micro_batch, device=torch.device(device)
            ):
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
                    self.ledger.executed(run, label, plan, start, done)

    def finish(self, label: str, mechanism: NoisySGD | NoisySum) -> None:
        """Deletes the key of a stage whose release is saved: it can never be repeated from here."""
        if self._run is None:
            return
        run, keys = self._run
        plan = self._stage(label, mechanism).charge.plan
        if executed_releases(self.ledger.lines_of(run)).get(label, 0) < mechanism.n_releases:
            # A kill came between the last checkpoint and its note.
            self.ledger.executed(run, label, plan, 0, mechanism.n_releases)
        keys.forget(plan)


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
        facts, max_records_per_unit, ledger, limit, public: as for `PrivateDataset`.
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
        classes_declared=source.classes_declared,
    )
