"""States that are put back: what a later one held the answers of is asked the same again, or not at
all.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dpgen.data.private import PrivateDataset
from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.lineage import witness
from dpgen.privacy.lineage.answers import HEADER, Answers, Entry, answer_digest
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.lineage.memory import Lineage, Overtaken
from dpgen.privacy.mechanisms import noisy_sum, shares
from dpgen.runs.checkpoint import Checkpoints
from dpgen.stages.release import released
from tests.privacy.lineage.test_memory import (
    N_STEPS,
    SGD,
    around,
    begun,
    cheap,
    copied,
    heard,
    lines,
    plan,
)

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
        saved = Checkpoints(self.folder / "state")
        w = self.states[start]
        for step in data.steps(SGD, label="teacher", start=start, micro_batch=4):
            found.append(step.gradient(self.kit.Linear(), w))
            w = {name: value - found[-1][name] for name, value in w.items()}
            data.save_state(saved, "teacher", w, step=step.index + 1)
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



@contextmanager
def another_order() -> Iterator[None]:
    """Sums that end in other bits, as those that another number of threads has added up."""

    def moved(patch: pytest.MonkeyPatch, module: Any, name: str, place: int) -> None:  # noqa: ANN401
        real = getattr(module, name)

        def add(*args: Any) -> None:  # noqa: ANN401
            real(*args)
            for total in args[place].values():
                total *= 1 + 2**-51

        patch.setattr(module, name, add)

    with pytest.MonkeyPatch.context() as patch:
        moved(patch, shares, "add_clipped", 0)
        moved(patch, noisy_sum, "add_statistic", 1)
        yield


def test_a_step_that_comes_to_another_answer_than_a_saved_state_holds_is_not_answered(
    kit: Kit, tmp_path: Path
) -> None:
    """The same question, a sum with other last bits, thus other noise: a second answer, whose mean
    with the first has less noise than was charged.
    """
    run = Descended(kit, tmp_path)
    first = run.states[1]
    with another_order(), pytest.raises(
        LedgerError,
        match="release 0 of stage 'teacher' of run run has come to another answer than in a state "
        "of the run that was noted since, with 2 answers: its sum was added up in another order",
    ):  # fmt: skip
        run.live(0)
    run.live(0)
    assert all(torch.equal(run.states[1][name], w) for name, w in first.items())


def test_what_no_saved_state_holds_may_be_added_up_in_another_order(
    kit: Kit, tmp_path: Path
) -> None:
    run = Descended(kit, tmp_path)
    with another_order():
        assert len(run.live(2)) == N_STEPS - 2


def test_a_sum_whose_tables_were_saved_comes_to_them_again_or_is_not_answered(
    kit: Kit, tmp_path: Path
) -> None:
    """Killed between its save and its end, and put back to before it was saved."""
    saved = Checkpoints(tmp_path / "state")

    def tables() -> dict[str, Tensor]:
        witness._ANSWERED.clear()
        with pytest.MonkeyPatch.context() as patch:
            data = begun(kit, tmp_path)
            patch.setattr(data, "finish", lambda *_: None)
            return released(data, "means", around(0), saved, False)

    first = tables()
    (tmp_path / "state" / "means.safetensors").unlink()
    with another_order(), pytest.raises(LedgerError, match="release 0 of stage 'means'.*answer"):
        tables()
    assert torch.equal(tables()["all"], first["all"])


def test_one_process_gives_one_answer(kit: Kit, tmp_path: Path) -> None:
    """Nothing was saved, but the first answer may still be held."""
    first = begun(kit, tmp_path).release(around(0), label="means")["all"]
    with another_order(), pytest.raises(LedgerError, match="answered in this process, and its sum"):
        begun(kit, tmp_path).release(around(0), label="means")
    assert torch.equal(begun(kit, tmp_path).release(around(0), label="means")["all"], first)


def test_a_ledger_that_was_moved_without_its_answers_asks_for_them(
    kit: Kit, tmp_path: Path
) -> None:
    run = Descended(kit, tmp_path)
    (held,) = tmp_path.rglob("*.answers")
    kept = held.rename(tmp_path / "kept")
    with pytest.raises(LedgerError, match=r"\.answers must lie beside its ledger.*Put it back"):
        run.live(2)
    kept.rename(held)
    run.live(2)


def test_the_answers_of_an_earlier_version_are_refused_by_name(kit: Kit, tmp_path: Path) -> None:
    run = Descended(kit, tmp_path)
    (held,) = tmp_path.rglob("*.answers")
    held.write_bytes(bytes(64))
    with pytest.raises(LedgerError, match="must begin with 'dpgen-answers/2'.*earlier version"):
        run.live(2)


def test_what_was_saved_is_told_from_what_is_not_known(tmp_path: Path) -> None:
    def held() -> Answers:
        return Answers(tmp_path / "a.jsonl", "run", "plan")

    one, two, other = (Entry(f"{n:02x}" * 32, f"{n + 1:02x}" * 32) for n in (17, 34, 51))
    assert len(held()) == 0 and not held().contradict(0, one)
    held().create()
    assert held().path.read_bytes() == HEADER and held().path.stat().st_mode & 0o077 == 0
    held().add([one, other])
    held().add([two])
    held().create()
    assert len(held()) == 3
    for release, entry, wrong in (
        (0, one, False), (0, two, True), (0, Entry(one.question), False),
        (0, Entry(one.question, two.answer), True), (0, Entry(two.question), True),
        (1, one, True), (1, other, False), (2, two, False), (2, one, True), (3, one, False),
    ):  # fmt: skip
        assert held().contradict(release, entry) is wrong
    held().path.write_bytes(held().path.read_bytes()[:-1])  # torn: never acknowledged
    assert len(held()) == 2
    with pytest.raises(ValueError, match="must have an answer"):
        held().add([Entry(other.question)])
    held().add([other])
    assert len(held()) == 3 and held().contradict(2, two) and not held().contradict(2, other)
    assert Answers(tmp_path / "a.jsonl", "run", "other").path != held().path
    held().forget()
    held().forget()
    assert len(held()) == 0 and list(tmp_path.iterdir()) == []


def test_a_state_that_says_it_holds_more_than_was_noted_is_refused(
    kit: Kit, tmp_path: Path
) -> None:
    """Its step number was changed, or the file of answers was cut: what lies between would be
    asked by nobody, and later twice.
    """
    run = Descended(kit, tmp_path, n_saved=1)
    run.states.append(run.states[1])
    with heard() as found, pytest.raises(LedgerError, match="it holds 2 answers, and 1 were noted"):
        run.live(2)
    assert found == []
    (held,) = tmp_path.rglob("*.answers")
    held.write_bytes(HEADER)
    with pytest.raises(LedgerError, match="it holds 1 answers, and 0 were noted"):
        run.live(1)


def test_a_state_holds_what_was_answered_and_nothing_else(kit: Kit, tmp_path: Path) -> None:
    data, states = begun(kit, tmp_path), Checkpoints(tmp_path / "state")
    next(data.steps(SGD, label="teacher", micro_batch=4)).gradient(kit.Linear(), kit.parameters())
    with pytest.raises(ValueError, match="release 1 was neither"):
        data.save_state(states, "teacher", {}, step=2)
    assert states.load("teacher") is None


def test_a_step_is_asked_before_the_next_one(kit: Kit, tmp_path: Path) -> None:
    """Kept for later, its answer would be noted by nobody."""
    first, *_ = list(begun(kit, tmp_path).steps(SGD, label="teacher", micro_batch=4))
    with heard() as found, pytest.raises(RuntimeError, match="step 0 is over"):
        first.gradient(kit.Linear(), kit.parameters())
    assert found == []


def overtaken(kit: Kit, home: Path, copy: Path) -> PrivateDataset:
    """A copy of the run's folder, begun as if in another process."""
    witness._ANSWERED.clear()
    data = kit.dataset(kit.source(), home)
    data.begin("run", StageKeys(copy / "keys"), plan(kit))
    return data


def test_what_was_answered_is_noted_before_the_state_is_saved(kit: Kit, tmp_path: Path) -> None:
    """Stopped between the two, the answer counts as seen: the state may be there."""
    run = Descended(kit, tmp_path, n_saved=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", stopped)
        with pytest.raises(KeyboardInterrupt):
            run.live(1, 2)
    with another_order(), pytest.raises(LedgerError, match="release 1 of.*another answer"):
        run.live(1, 2)
    run.live(1)


def stopped(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_run_that_was_overtaken_notes_nothing_and_saves_nothing(
    kit: Kit, tmp_path: Path
) -> None:
    home = tmp_path / "run"
    data, states = begun(kit, home), Checkpoints(home / "state")
    next(data.steps(SGD, label="teacher", micro_batch=4)).gradient(kit.Linear(), kit.parameters())
    overtaken(kit, home, copied(home, "copy"))
    (held,) = tmp_path.rglob("*.answers")
    with pytest.raises(Overtaken):
        data.save_state(states, "teacher", {}, step=1)
    assert states.load("teacher") is None and held.read_bytes() == HEADER


@pytest.mark.parametrize("write", ["add", "create"])
def test_no_copy_is_begun_while_answers_are_written(write: str, kit: Kit, tmp_path: Path) -> None:
    """It would read the file before, and write it after, or be wiped out."""
    home = tmp_path / "run"
    data, states = begun(kit, home), Checkpoints(home / "state")
    real, locks = getattr(Answers, write), list[bool]()

    def watched(self: Answers, *given: Any) -> None:  # noqa: ANN401
        lock = os.open(data.ledger.path.with_name(data.ledger.path.name + ".lock"), os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            locks.append(True)
        finally:
            os.close(lock)
        real(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Answers, write, watched)
        step = next(data.steps(SGD, label="teacher", micro_batch=4))
        step.gradient(kit.Linear(), kit.parameters())
        data.save_state(states, "teacher", {}, step=1)
    assert locks == [True]


def test_the_digest_of_an_answer_sees_every_bit_and_name() -> None:
    answer = {"a": torch.zeros(2), "b": torch.zeros(3)}
    others = [
        {"a": torch.tensor([0.0, -0.0]), "b": torch.zeros(3)},
        {"a": torch.zeros(2), "c": torch.zeros(3)},
        {"a": torch.zeros(3), "b": torch.zeros(2)},
        {"a": torch.zeros(2, dtype=torch.float64), "b": torch.zeros(3)},
        {"a": torch.zeros(2)},
    ]
    assert answer_digest(answer) == answer_digest(dict(reversed(answer.items())))
    assert len({answer_digest(x) for x in (answer, *others)}) == 6
