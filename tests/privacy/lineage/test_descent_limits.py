"""Who else might hold a run's mark: a forked process, a generator of a stage that is over, a ledger
that forgot it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from dpgen.data.private import PrivateDataset
from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.lineage import descent as module
from dpgen.privacy.lineage.descent import Descent
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.lineage.memory import Overtaken
from dpgen.privacy.mechanisms.declared import NoisySGD
from dpgen.privacy.plan import Plan, Stage
from tests.relations import ADD_REMOVE

Kit = Any  # what conftest.py shares
STEPS = NoisySGD(0.5, 6, 1.0, 20)


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpgen.privacy.ledger.privacy_ledger.epsilon_of", lambda *_: 0.1)
    monkeypatch.setattr(module, "epsilon_of", lambda *_: 0.1)


def begun(kit: Kit, folder: Path, run: str) -> PrivateDataset:
    data: PrivateDataset = kit.dataset(kit.source(), folder)
    data.begin(run, StageKeys(folder / "keys"), Plan((Stage("teacher", STEPS),), ADD_REMOVE))
    return data


def test_a_forked_process_answers_nothing_of_its_parents_run(kit: Kit, tmp_path: Path) -> None:
    """Both hold the mark, and would have their own memory of what was answered."""
    data = begun(kit, tmp_path, "forked")
    steps = data.steps(STEPS, label="teacher", micro_batch=4)
    w = kit.parameters()
    next(steps).gradient(kit.Linear(), w)
    step, (reading, writing) = next(steps), os.pipe()
    child = os.fork()
    if child == 0:
        said = b"answered"
        try:
            step.gradient(kit.Linear(), {name: t + 1 for name, t in w.items()})
        except LedgerError as error:
            said = str(error).encode()
        finally:
            os.write(writing, said)
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert b"of which this one is a fork" in pipe.read()
    step.gradient(kit.Linear(), w)  # the parent goes on


def test_a_stage_that_is_finished_is_not_answered_through_an_old_generator(
    kit: Kit, tmp_path: Path
) -> None:
    data = begun(kit, tmp_path, "old")
    steps = data.steps(STEPS, label="teacher", micro_batch=4)
    next(steps).gradient(kit.Linear(), kit.parameters())
    step = next(steps)
    data.finish("teacher", STEPS)
    with pytest.raises(LedgerError, match="is finished and is never answered again"):
        step.gradient(kit.Linear(), kit.parameters())


def test_who_was_overtaken_finishes_nothing_and_notes_nothing(kit: Kit, tmp_path: Path) -> None:
    data = begun(kit, tmp_path / "one", "copied")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    other = begun(kit, tmp_path / "two", "copied")
    before = other.ledger.lines()
    with pytest.raises(Overtaken):
        data.finish("teacher", STEPS)
    assert other.ledger.lines() == before


def test_a_ledger_that_forgot_a_run_is_told_from_a_run_without_marks(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Restored together with its head file, to what it was before the run was ever begun."""
    kept = tmp_path / "kept"
    begin = Descent.begin

    def keep(self: Descent) -> None:
        shutil.copytree(self.ledger.path.parent, kept)
        begin(self)

    with monkeypatch.context() as patch:
        patch.setattr(Descent, "begin", keep)
        begun(kit, tmp_path, "forgotten")
    data = begun(kit, tmp_path, "forgotten")
    step = next(data.steps(STEPS, label="teacher", micro_batch=4))
    folder = data.ledger.path.parent
    shutil.rmtree(folder)
    kept.rename(folder)
    with pytest.raises(LedgerError, match="it was restored to an earlier state"):
        step.gradient(kit.Linear(), kit.parameters())
    with pytest.raises(LedgerError, match="it was restored to an earlier state"):
        begun(kit, tmp_path, "forgotten")
