"""States the privacy of a finished run: the ledger's last line, its copy, certificate or notice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpgen.data.account import AccountedData
from dpgen.privacy.ledger.charges import lines_of_run
from dpgen.privacy.plan import Plan
from dpgen.privacy.statements.document import Certificate, Notice
from dpgen.privacy.statements.given_teachers import told_of
from dpgen.privacy.statements.notice import Claim, notice_of
from dpgen.privacy.statements.randomised_labels import are_randomised
from dpgen.privacy.statements.statement import statement_of
from dpgen.runs.released import hashes, write_copy


def stated(
    mechanism_id: str,
    promise: Plan | Claim,
    data: AccountedData,
    delta: float,
    run: str,
    folder: Path,
    public_start: Mapping[str, Any] | None,
    config: Mapping[str, Any],
) -> Certificate | Notice:
    """Notes in the ledger what a run has released, copies its lines into the folder, and returns
    the document that covers all files of the folder.

    Args:
        mechanism_id: id of method and mode.
        promise: what the run has done.
        data: the private records, with their ledger open.
        delta: the delta at which epsilon is stated.
        run: id of the run.
        folder: the run folder, which holds every released file.
        public_start: what networks learned from before the private stages; None for nothing.
        config: the content of its ``config.json``.
    """
    files = hashes(folder)
    if isinstance(promise, Plan):
        data.ledger.released(run, files)
    ledger = data.ledger.lines()
    lines, account = lines_of_run(ledger, run), data.account(ledger)
    files = write_copy(folder, lines, files)
    if isinstance(promise, Claim):
        facts = data.facts.to_dict()
        return Notice(notice_of(promise, files=files, facts=facts, data_set=account))
    stages = {stage.label: stage.mechanism.settings for stage in promise.stages}
    statement = statement_of(
        "model",
        lines=lines,
        delta=delta,
        mechanism={"id": mechanism_id, "stages": stages},
        files=files,
        data_set=account,
        public_start=public_start,
        labels_randomised=are_randomised(config),
        teachers=told_of(config),
    )
    return Certificate(statement)
