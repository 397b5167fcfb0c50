"""Private images, which can only be read through three methods that return released values. There
is no length, no index and no iteration.

`PrivateDataset.release` answers a `NoisySum`, `PrivateDataset.steps` a `NoisySGD`, and
`PrivateDataset.ensemble` a `NoisyEnsemble`. All require a charge in the data set's ledger before
the first record is read. Generation methods never see a record: they pass functions of one record,
or of one shard, and get noised sums back.

A fourth method, `PrivateDataset.unprotected_records`, is for the negative controls. It is refused
unless the run was begun, and noted in the ledger, as one without a verified claim.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from dpgen.data.account import AccountedData
from dpgen.data.saved_answers import ANSWERS, SavedAnswers
from dpgen.data.slots import RecordSlots
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.ledger.charges import Charge
from dpgen.privacy.lineage.descent import Descent
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.lineage.witness import StageWitness
from dpgen.privacy.mechanisms.contributions import Records
from dpgen.privacy.mechanisms.declared import Mechanism, NoisySGD, NoisySum
from dpgen.privacy.mechanisms.ensemble import NoisyEnsemble
from dpgen.privacy.mechanisms.noise import NoiseSource
from dpgen.privacy.mechanisms.noisy_ensemble import Ensemble
from dpgen.privacy.mechanisms.noisy_step import NoisyStep
from dpgen.privacy.mechanisms.shares import Shares
from dpgen.privacy.mechanisms.teachers import Fit, rehearse
from dpgen.privacy.plan import Plan, Stage
from dpgen.privacy.statements.notice import Claim
from dpgen.runs.checkpoint import Checkpoints


class PrivateDataset(AccountedData):
    """Private records that answer a charged run through `release`, `steps` and `ensemble` only;
    arguments as for `AccountedData`.
    """

    _run: Descent | None = None
    _unverified: tuple[StageKeys, Claim] | None = None
    _witnesses: Mapping[str, StageWitness] = MappingProxyType({})  # by label

    def open_ledger(self, limit: Budget, folder: Path) -> None:
        """Finds the ledger of this data set, as the records are now; writes nothing. A run that was
        begun before gets no more answers until `begin` is called again.

        Args:
            limit: limit of a new ledger, unless the data set was opened with a limit of its own.
            folder: the folder in which the ledger of public data lies.
        """
        self._run = self._unverified = None
        super().open_ledger(limit, folder)

    def begin(self, run: str, keys: StageKeys, plan: Plan) -> None:
        """Charges every stage of ``plan`` to the data set, all or none, before anything is read.

        Raises OverlapError, and charges nothing, when records are shared with other ledgers and
        ``overlap`` says to refuse.

        Args:
            run: id of the run; a run that was charged before pays nothing again.
            keys: the run's secret keys; they must belong to this data set.
            plan: the mechanisms that the run will apply.

        Raises:
            BudgetExceeded: the limit has no room for the plan.
            Overtaken: these keys are a copy, and the run has been begun elsewhere since.
            LedgerError: the keys belong to other data, or the plan is not what was charged.
        """
        if plan.relation != self.ledger.relation:
            raise ValueError(
                f"the plan is for {plan.relation.phrase}, the ledger of the data set "
                f"for {self.ledger.relation.phrase}"
            )
        self._run = self._unverified = None
        self._require_same_records()
        descent = Descent(self.ledger, run, keys)
        keys.check(self._owner(run), tied=descent.was_begun())
        descent.prepare()
        for stage in plan.stages:
            if not self.ledger.holds(run, stage.charge):
                keys.create(stage.charge.plan)
        self._account().charge(run, [stage.charge for stage in plan.stages])
        # After the charge, which settles the ledger's name, and before the first record is read.
        keys.bind(self._owner(run))
        descent.begin()
        self._run = descent

    def begin_unverified(self, run: str, keys: StageKeys, claim: Claim) -> None:
        """Notes in the ledger, before anything is read, a run without a verified privacy claim.

        After that line the spending of the data set is infinite, and certified runs are refused.

        Args:
            run: id of the run; one that was begun before is refused, because it is not resumed.
            keys: the run's secret keys.
            claim: the claim of the mode that runs.
        """
        self._run = self._unverified = None
        self._require_same_records()
        keys.check(self._owner(run))
        self._account().unverified(run, claim.mechanism)
        keys.create(claim.plan)
        keys.bind(self._owner(run))
        self._unverified = (keys, claim)

    def unprotected_records(self, claim: Claim) -> tuple[Records, NoiseSource]:
        """Returns the raw records, and the noise source of a published mechanism.

        THIS IS NOT PRIVATE: it is for modes that carry a notice instead of a certificate. It can be
        called once, and only for the claim that `begin_unverified` has put on record.
        """
        if self._unverified is None or self._unverified[1] != claim:
            raise RuntimeError(
                "raw records are given to no run but one that PrivateDataset.begin_unverified has "
                "noted in the ledger, and once"
            )
        keys, _ = self._unverified
        self._unverified = None
        return RecordSlots(self._source, self._facts), self.noise(keys, claim.plan)

    def _stage(self, label: str, mechanism: Mechanism) -> Stage:
        return Stage(label, mechanism, self.ledger.relation.max_records_per_unit)

    def _enter(self, label: str, mechanism: Mechanism) -> tuple[Descent, Charge]:
        """Checks that a stage is charged, before anything is read; every door calls it.
        """
        if self._run is None:
            raise RuntimeError(
                "no record is read before PrivateDataset.begin has charged the run"
            )
        charge = self._stage(label, mechanism).charge
        self._run.enter(charge)
        return self._run, charge

    def _watched(self, label: str, run: Descent, charge: Charge) -> StageWitness:
        witness = StageWitness(run, charge)
        self._witnesses = {**self._witnesses, label: witness}
        return witness

    def noise(self, keys: StageKeys, plan: str) -> NoiseSource:
        """Returns the source of a stage's randomness; a replay overrides this."""
        return keys.noise(plan)

    def release(self, mechanism: NoisySum, *, label: str) -> dict[str, Tensor]:
        """Releases the noised sum over all records of a clipped statistic.

        Args:
            mechanism: the release, as it was charged.
            label: the name that the stage was charged by.

        Returns:
            The noisy tables by name, (n_rows, D) float64 each.

        Raises:
            RuntimeError: the run was not begun, or the stage was asked already.
            LedgerError: the stage is not what was charged, is finished, or asks another question.
        """
        run, charge = self._enter(label, mechanism)
        records, noise = RecordSlots(self._source, self._facts), self.noise(run.keys, charge.plan)
        witness = self._watched(label, run, charge)
        tables = mechanism.release(records, noise, witness=witness)
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
        shares: Shares | None = None,
    ) -> Iterator[NoisyStep]:
        """Yields noisy gradient steps ``start`` to ``mechanism.n_steps - 1``.

        Args:
            mechanism: the steps, as they were charged.
            label: the name that the stage was charged by.
            start: the first step to run; a resumed stage starts after the steps that its checkpoint
                holds, and a repeated step gives the same answer again.
            micro_batch: number of records whose gradients are held at once. It changes memory,
                speed and the rounding of sums, so it is part of the question: a resume keeps it.
            device: the device on which gradients are computed.
            shares: the processes that share a step's micro-batches; None for this one alone. Their
                number changes nothing but the time.

        Raises:
            RuntimeError, LedgerError: as for `release`.
        """
        run, charge = self._enter(label, mechanism)
        noise = self.noise(run.keys, charge.plan)
        records, witness = RecordSlots(self._source, self._facts), self._watched(label, run, charge)
        if start:
            witness.starting(start)
            run.executed(charge, 0, start)
        forgiven = tuple[type[OSError], ...]()
        try:
            yield from mechanism.steps(
                records, noise, start=start, micro_batch=micro_batch, device=torch.device(device),
                witness=witness, shares=shares,
            )  # fmt: skip
        except GeneratorExit:
            # The iterator is being closed, so an error cannot be reported. Only the executed-steps
            # line is lost; a resume writes it again.
            forgiven = (OSError,)
            raise
        finally:
            # A refused step has not run; a step that stopped after its sum counts as executed.
            if witness.n_answered > start:
                with contextlib.suppress(*forgiven):
                    run.executed(charge, start, witness.n_answered)

    def ensemble(
        self, mechanism: NoisyEnsemble, fit: Fit, *, label: str, checkpoints: Checkpoints, seed: int
    ) -> Ensemble:
        """Returns the ensemble of teachers, which answers queries with noised sums.

        First a teacher is trained on made-up records (`rehearse`), so that a mistake in ``fit`` is
        an error before a record is read; a method does the same before it charges the stage.

        Args:
            mechanism: the ensemble, as it was charged.
            fit: trains the teacher of one shard.
            label: the name that the stage was charged by.
            checkpoints: where all answers are saved under the label, before anyone uses them. A
                resumed stage asks its queries anew and is given the saved answers.
            seed: public seed of the teachers.

        Raises:
            RuntimeError, LedgerError: as for `release`.
            Exception: what ``fit`` raises on made-up records.
        """
        facts = self._facts
        rehearsed = rehearse(mechanism, fit, facts.shape, facts.n_classes, seed)
        run, charge = self._enter(label, mechanism)
        records, witness = RecordSlots(self._source, facts), self._watched(label, run, charge)

        def save(answers: Tensor) -> None:
            self.save_state(checkpoints, label, {ANSWERS: answers}, step=len(answers))
            run.executed(charge, 0, len(answers))

        kept = SavedAnswers(mechanism, checkpoints.load(label), save)
        if n_saved := len(kept.load()):
            witness.starting(n_saved)
            run.executed(charge, 0, n_saved)
        noise = self.noise(run.keys, charge.plan)
        return mechanism.ensemble(
            records, noise, fit, seed=seed, witness=witness, kept=kept, rehearsed=rehearsed
        )

    def noted_micro_batch(self, label: str, mechanism: NoisySGD) -> int | None:
        """Returns the micro-batch of a stage that gave an answer before it was stopped, which a
        resume keeps; None if it has given none, so that any is allowed.
        """
        if self._run is None:
            return None
        return StageWitness(self._run, self._stage(label, mechanism).charge).noted_micro_batch()

    def save_state(
        self, checkpoints: Checkpoints, label: str, tensors: Mapping[str, Tensor], *, step: int
    ) -> None:
        """Saves the state of a stage that holds the answers of releases 0 to ``step - 1``, under
        its label. These answers are noted first: anyone who finds the state has seen them, so these
        releases are never asked another question or answered differently.

        Args:
            checkpoints: where the state is saved.
            label: label of a stage that this process has asked.
            tensors: the state.
            step: number of releases whose answers the state holds.
        """
        self._witnesses[label].saving(step)
        checkpoints.save(label, tensors, step=step)

    def is_finished(self, label: str, mechanism: Mechanism) -> bool:
        """Returns whether a stage of the run was finished: only its saved release is left of it."""
        return self._run is not None and self._run.is_finished(self._stage(label, mechanism).charge)

    def finish(self, label: str, mechanism: Mechanism) -> None:
        """Notes that a stage whose release is saved is finished, and deletes its key: it can never
        be answered again, here or anywhere.
        """
        if self._run is not None:
            self._run.finish(self._stage(label, mechanism).charge, mechanism.n_releases)
