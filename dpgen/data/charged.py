"""Data whose account a run is charged to before they answer anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from torch import Tensor

from dpgen.data.account import AccountedData
from dpgen.data.saved_answers import ANSWERS, SavedAnswers
from dpgen.data.silos import require_silos
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.ledger.charges import Charge
from dpgen.privacy.lineage.descent import Descent
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.lineage.witness import StageWitness
from dpgen.privacy.mechanisms.declared import Mechanism
from dpgen.privacy.mechanisms.ensemble import AnyEnsemble
from dpgen.privacy.mechanisms.noise import NoiseSource
from dpgen.privacy.plan import Plan, Stage
from dpgen.privacy.statements.notice import Claim
from dpgen.runs.checkpoint import Checkpoints


class ChargedData(AccountedData):
    """Private data that answer a run only once it is charged; arguments as for `AccountedData`. The
    methods that answer are those of the subclasses: each calls `_enter` first.
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
        require_silos(plan, self._source)
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

    def _answering(
        self, mechanism: AnyEnsemble, label: str, checkpoints: Checkpoints
    ) -> tuple[NoiseSource, StageWitness, SavedAnswers]:
        """Enters the stage of an ensemble. Returns its noise, its witness, and its saved answers,
        which are noted before they are saved.
        """
        run, charge = self._enter(label, mechanism)
        witness = self._watched(label, run, charge)

        def save(answers: Tensor) -> None:
            self.save_state(checkpoints, label, {ANSWERS: answers}, step=len(answers))
            run.executed(charge, 0, len(answers))

        kept = SavedAnswers(mechanism, checkpoints.load(label), save)
        if n_saved := len(kept.load()):
            witness.starting(n_saved)
            run.executed(charge, 0, n_saved)
        return self.noise(run.keys, charge.plan), witness, kept

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
