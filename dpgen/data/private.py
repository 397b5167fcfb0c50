"""Private images, which can only be read through three methods that return released values. There
is no length, no index and no iteration.

`PrivateDataset.release` answers a `NoisySum`, `PrivateDataset.steps` a `NoisySGD`, and
`PrivateDataset.ensemble` a `NoisyEnsemble`. All require a charge in the data set's ledger before
the first record is read. Generation methods never see a record: they pass functions of one record,
or of one shard, and get noised sums back.

`PrivateDataset.unprotected_records` is for the negative controls, and refused unless the ledger
notes the run as one without a verified claim; `checked_records` is for a helper of a charged run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from dpgen.data.charged import ChargedData
from dpgen.data.slots import RecordSlots
from dpgen.privacy.lineage.witness import StageWitness
from dpgen.privacy.mechanisms.checked_records import CheckedRecords
from dpgen.privacy.mechanisms.contributions import Records
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum
from dpgen.privacy.mechanisms.ensemble import NoisyEnsemble
from dpgen.privacy.mechanisms.noise import NoiseSource
from dpgen.privacy.mechanisms.noisy_ensemble import Ensemble
from dpgen.privacy.mechanisms.noisy_step import NoisyStep
from dpgen.privacy.mechanisms.shares import Shares
from dpgen.privacy.mechanisms.teachers import Fit, rehearse
from dpgen.privacy.statements.notice import Claim
from dpgen.runs.checkpoint import Checkpoints


class PrivateDataset(ChargedData):
    """Private records that answer a charged run through `release`, `steps` and `ensemble` only;
    arguments as for `AccountedData`.
    """

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

    def checked_records(self) -> CheckedRecords:
        """Returns the records for a helper of process 0, which sends the digest of each it asks."""
        return CheckedRecords(RecordSlots(self._source, self._facts))

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
        noise, witness, kept = self._answering(mechanism, label, checkpoints)
        records = RecordSlots(self._source, facts)
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
