"""States that are put back: what a later one held the answers of is asked the same again, or not at
all.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.lineage import witness
from dpgen.privacy.lineage.answers import Answers
from dpgen.privacy.lineage.memory import Lineage
from tests.privacy.lineage.test_memory import N_STEPS, SGD, begun, cheap, copied, heard, lines

__all__ = ["cheap"]
Kit = Any  # what conftest.py shares


class Descended:
    """A run whose every step moves the parameters and is saved, life by life, each as if in a
    process of its own.

    Args:
        n_saved: answers that its first life saves.
    """

    def __init__(self, kit: Kit, folder: Path, *, n_saved: int = 2) -> None:
        self.kit, self.folder, self.states = kit, folder, [kit.parameters()]
        self.live(0, n_saved)

    def live(self, start: int, stop: int = N_STEPS) -> list[dict[str, Tensor]]:
        """The answers from the state at ``start`` on, each of which is saved."""
        witness._ANSWERED.clear()
        data, found = begun(self.kit, self.folder), []
        w = self.states[start]
        for step in data.steps(SGD, label="teacher", start=start, micro_batch=4):
            found.append(step.gradient(self.kit.Linear(), w))
            w = {name: value - found[-1][name] for name, value in w.items()}
            data.saving("teacher", step.index + 1)
            self.states[step.index + 1 :] = [w]
            if step.index + 1 == stop:
                break
        return found


def test_an_earlier_state_that_is_put_back_comes_to_the_same_answers(
    kit: Kit, tmp_path: Path
) -> None:
    run = Descended(kit, tmp_path)
    first = list(run.states)
    again = run.live(0)
    for step, state in enumerate(first):
        assert all(torch.equal(run.states[step][name], w) for name, w in state.items())
    assert len(again) == N_STEPS


def test_an_edited_state_is_asked_nothing_whose_answer_a_later_state_held(
    kit: Kit, tmp_path: Path
) -> None:
    """Step 1 was answered and saved: under other parameters its answer would be a second one."""
    run = Descended(kit, tmp_path)
    run.states[1] = {name: w + 0.5 for name, w in run.states[1].items()}
    with (
        heard() as found,
        pytest.raises(
            LedgerError,
            match="release 1 of stage 'teacher' of run run was asked with other parameters, and a "
            "state of the run with 2 answers was noted since.* resume from the last checkpoint",
        ),
    ):
        run.live(1)
    assert found == []


def test_a_folder_put_back_whole_is_held_to_what_was_saved_since(kit: Kit, tmp_path: Path) -> None:
    """What was saved is remembered beside the ledger: the folder's own memory goes with it."""
    run = Descended(kit, tmp_path / "run", n_saved=1)
    kept = copied(tmp_path / "run", "kept")
    run.live(1, 3)
    (mark,) = lines(kit.dataset(kit.source(), tmp_path), "lineage")[-1:]
    shutil.rmtree(tmp_path / "run")
    kept.rename(tmp_path / "run")
    Lineage(tmp_path / "run" / "keys").propose(mark["mark"])  # as if it had been kept after it
    run.states[1] = {name: w + 0.5 for name, w in run.states[1].items()}
    with pytest.raises(LedgerError, match="with 3 answers was noted since"):
        run.live(1)


def test_the_last_state_may_be_another_one_as_nobody_saw_what_comes_next(
    kit: Kit, tmp_path: Path
) -> None:
    """Which question is asked next may depend on anything that was seen (theorem F3)."""
    run = Descended(kit, tmp_path)
    run.states[2] = {name: w + 0.5 for name, w in run.states[2].items()}
    run.live(2)


def test_what_was_saved_is_told_from_what_is_not_known(tmp_path: Path) -> None:
    def held() -> Answers:
        return Answers(tmp_path / "a.jsonl", "run", "plan")

    one, two = "11" * 32, "22" * 32
    assert len(held()) == 0 and not held().contradict(0, one)
    held().add([one, None])
    held().add([two])
    assert len(held()) == 3 and held().path.stat().st_mode & 0o077 == 0
    for release, question, wrong in (
        (0, one, False), (0, two, True), (1, one, False), (2, two, False), (2, one, True),
        (3, one, False),
    ):  # fmt: skip
        assert held().contradict(release, question) is wrong
    held().path.write_bytes(held().path.read_bytes()[:-1])  # torn: never acknowledged
    assert len(held()) == 2
    held().add([one])
    assert len(held()) == 3 and held().contradict(2, two) and not held().contradict(2, one)
    assert Answers(tmp_path / "a.jsonl", "run", "other").path != held().path
    held().forget()
    held().forget()
    assert len(held()) == 0 and list(tmp_path.iterdir()) == []
