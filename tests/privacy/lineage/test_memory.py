"""A run has one line of descent: a copy that comes second, a second question and a finished stage
are refused, and a run that was stopped between any two of its writes goes on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dpgen.data.private import PrivateDataset
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.accounting.events import leaves
from dpgen.privacy.ledger import ledger_file
from dpgen.privacy.ledger import privacy_ledger as ledger_module
from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.ledger.charges import releases_of
from dpgen.privacy.ledger.ledger_file import LedgerFile
from dpgen.privacy.ledger.privacy_ledger import PrivacyLedger
from dpgen.privacy.lineage import answers, descent, keys, witness
from dpgen.privacy.lineage import memory as lineage
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.lineage.memory import Lineage, Marks, Overtaken
from dpgen.privacy.lineage.witness import StageWitness
from dpgen.privacy.mechanisms.contributions import Block
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.privacy.plan import Plan, Stage
from dpgen.runs import checkpoint
from dpgen.runs.checkpoint import Checkpoints
from dpgen.stages.release import released
from tests.relations import ADD_REMOVE

Kit = Any  # what conftest.py shares
N_STEPS, WIDTH = 3, 20_000
SGD = NoisySGD(0.5, N_STEPS, 1.0, 20)


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doors do not depend on how the accountant counts: steps / 100 stand for epsilon."""

    def price(event: Any, delta: float, adjacency: str) -> float:  # noqa: ANN401
        return sum(leaf.steps for leaf in leaves(event)) / 100

    monkeypatch.setattr(ledger_module, "epsilon_of", price)
    monkeypatch.setattr(descent, "epsilon_of", price)


@dataclass(frozen=True)
class Around:
    """The sum of all records around a released value."""

    centre: Tensor
    bound: float = 2.0
    width: int = WIDTH
    settings = {"name": "Around"}  # noqa: RUF012

    @property
    def tables(self) -> dict[str, tuple[int, int]]:
        return {"all": (1, self.width)}

    def __call__(self, pixels: Tensor, labels: Tensor) -> dict[str, Block]:
        x = pixels.flatten(1)[:, :1].double() - self.centre
        return {"all": Block(x.expand(-1, self.width) / self.width**0.5, labels * 0)}


def around(centre: float) -> NoisySum:
    return NoisySum(Around(torch.full((1,), centre, dtype=torch.float64)), 4.0)


NARROW = NoisySum(Around(torch.zeros(1, dtype=torch.float64), width=3), 4.0)


def plan(kit: Kit) -> Plan:
    return Plan((Stage("means", around(0)), Stage("teacher", SGD)), ADD_REMOVE)


def begun(kit: Kit, folder: Path, *, run: str = "run", source: Any = None) -> PrivateDataset:  # noqa: ANN401
    data = kit.dataset(source or kit.source(), folder)
    data.begin(run, StageKeys(folder / "keys"), plan(kit))
    return data


def lines(data: PrivateDataset, kind: str) -> list[dict[str, Any]]:
    return [line for line in data.ledger.lines() if line["kind"] == kind]


def copied(folder: Path, name: str) -> Path:
    shutil.copytree(folder, folder.with_name(name))
    return folder.with_name(name)


@contextmanager
def heard() -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Every sum and its answer."""
    found: list[tuple[Tensor, Tensor]] = []
    real = KeyedNoise.add

    def add(self: KeyedNoise, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        found.append((total.clone(), real(self, total, std, release=release, name=name)))
        return found[-1][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KeyedNoise, "add", add)
        yield found


def assert_independent(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> None:
    """The noise of two answers: uncorrelated, so that of their difference is sqrt(2) larger."""
    a, b = ((answer - total).flatten().numpy() for total, answer in (one, other))
    assert abs(np.corrcoef(a, b)[0, 1]) * np.sqrt(a.size) < 6
    assert (a - b).std() / a.std() == pytest.approx(np.sqrt(2), rel=0.03)


def unchecked(patch: pytest.MonkeyPatch) -> None:
    """Nobody compares questions."""
    patch.setattr(StageWitness, "_compared", lambda *_: None)
    patch.setattr(StageWitness, "_is_first", lambda *_: True)


def test_a_stage_that_is_asked_twice_is_asked_the_same_or_refused(
    kit: Kit, tmp_path: Path
) -> None:
    """`begin` twice in one process, whose two questions once got one noise."""
    data = begun(kit, tmp_path)
    first = data.release(around(0), label="means")["all"]
    data.begin("run", StageKeys(tmp_path / "keys"), plan(kit))
    message = (
        "stage 'means' of run run asks another question than it was begun with: "
        "mechanism.statistic.centre.tensor was .* resume it as it was begun, or start a new run "
        "folder, which is charged anew"
    )
    with pytest.raises(LedgerError, match=message):
        data.release(around(-0.3), label="means")
    other = begun(kit, tmp_path)
    with pytest.raises(LedgerError, match=message):
        other.release(around(-0.3), label="means")
    again = begun(kit, tmp_path)
    assert torch.equal(again.release(around(0), label="means")["all"], first)
    with pytest.raises(RuntimeError, match="second answer is a second release"):
        again.release(around(0), label="means")
    assert [line["label"] for line in lines(again, "asked")] == ["means"]


def test_two_questions_that_no_check_held_back_have_independent_noise(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands behind the ledger: question and sum are in the key of the noise."""
    unchecked(monkeypatch)
    with heard() as found:
        for centre in (0, -0.3):
            begun(kit, tmp_path).release(around(centre), label="means")
    (one, other) = found
    assert (one[0] - other[0]).norm() > 0.1
    assert_independent(one, other)


def test_the_noise_is_that_of_the_sum_where_a_question_was_forgotten(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unchecked(monkeypatch)
    monkeypatch.setattr(KeyedNoise, "for_question", lambda noise, question: noise)
    with heard() as found:
        for centre in (0, -0.3):
            begun(kit, tmp_path).release(around(centre), label="means")
    assert_independent(*found)


def test_the_question_is_in_the_noise_of_equal_sums(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both together, each alone: here the sums are alike, as nobody contributes."""
    unchecked(monkeypatch)
    source = kit.source()
    source.labels[:] = 7  # of no declared class
    facts = kit.dataset(kit.source(), tmp_path).facts
    with heard() as found:
        for centre in (0, -0.3):
            data = kit.dataset(source, tmp_path, facts=facts)
            data.begin("run", StageKeys(tmp_path / "keys"), plan(kit))
            data.release(around(centre), label="means")
    assert torch.equal(found[0][0], found[1][0])
    assert_independent(*found)


def answer(data: PrivateDataset, kit: Kit, **given: Any) -> list[dict[str, Tensor]]:  # noqa: ANN401
    """The steps from ``start`` to before ``stop``, with parameters at ``at``."""
    objective = given.pop("objective", kit.Linear())
    at, stop = given.pop("at", 0.0), given.pop("stop", N_STEPS)
    found = []
    for step in data.steps(SGD, label="teacher", **{"micro_batch": 4, **given}):
        w = {name: p + at for name, p in kit.parameters().items()}
        found.append(step.gradient(objective, w))
        if step.index + 1 == stop:
            break
    return found


def saved(data: PrivateDataset, stop: int) -> None:
    """Saves a state that holds the answers before step ``stop``."""
    data.save_state(Checkpoints(data.ledger.path.parent / "state"), "teacher", {}, step=stop)


CHANGES = {
    "micro-batch": ({"micro_batch": 3}, "micro_batch was 4, now it is 3"),
    "loss": ({"scale": 2.0}, "objective.scale was 1.0, now it is 2.0"),
    "start": ({"at": 0.5}, "the parameters that the first step starts from were different"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_resume_that_asks_another_question_is_told_what_differs(
    change: str, kit: Kit, tmp_path: Path
) -> None:
    given, message = CHANGES[change]
    given = dict(given)
    answer(begun(kit, tmp_path), kit, stop=2)
    source = kit.source()
    if "scale" in given:
        given = {"objective": kit.Linear(given.pop("scale"))}
    resumed = begun(kit, tmp_path, source=source)
    with pytest.raises(LedgerError, match=message):
        answer(resumed, kit, **given)
    assert source.reads == [], "refused before a record was read"
    answer(begun(kit, tmp_path), kit)


@pytest.mark.parametrize(
    ("what", "name"), [("torch", "torch"), ("numpy", "numpy"), ("_version", "dpgen")]
)
def test_a_resume_with_another_version_is_refused_by_name(
    what: str, name: str, kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dpgen.privacy.mechanisms import question

    killed = begun(kit, tmp_path)
    answer(killed, kit, stop=2)
    saved(killed, 1)
    resumed = begun(kit, tmp_path)
    if what == "_version":
        monkeypatch.setattr(question, what, lambda package: "9.9")
    else:
        monkeypatch.setattr(f"{what}.__version__", "9.9")
    with pytest.raises(LedgerError, match=rf"{name} was '[\d.]+\S*', now it is '9.9'"):
        answer(resumed, kit, start=1)


def test_an_objective_that_changes_between_two_steps_is_refused(kit: Kit, tmp_path: Path) -> None:
    steps = begun(kit, tmp_path).steps(SGD, label="teacher", micro_batch=4)
    next(steps).gradient(kit.Linear(), kit.parameters())
    with pytest.raises(LedgerError, match="objective.scale was 1.0, now it is 3.0"):
        next(steps).gradient(kit.Linear(3.0), kit.parameters())


def test_a_step_is_answered_one_question_in_a_process_and_another_one_elsewhere_is_independent(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = begun(kit, tmp_path)
    answer(killed, kit, stop=2)
    saved(killed, 1)
    resumed = begun(kit, tmp_path)
    with pytest.raises(LedgerError, match="release 1 of stage 'teacher' was answered in this proc"):
        answer(resumed, kit, start=1, at=0.5)
    # Another process, which holds no answer: other coins and other noise. (Here the objective
    # does not depend on the parameters, so all that is seen is randomness.)
    monkeypatch.setattr(witness, "_ANSWERED", {})
    one = answer(begun(kit, tmp_path), kit, start=1)
    monkeypatch.setattr(witness, "_ANSWERED", {})
    other = answer(begun(kit, tmp_path), kit, start=1, at=0.5)
    for a, b in zip(one, other, strict=True):
        assert not torch.isin(a["w"], b["w"]).any()


def test_a_run_that_had_no_memory_for_its_first_sum_goes_on_with_a_smaller_micro_batch(
    kit: Kit, tmp_path: Path
) -> None:
    """Nothing was answered: what a stage asks is noted when its first sum is there."""

    def full() -> None:
        raise MemoryError

    source = kit.source()
    data = begun(kit, tmp_path, source=source)
    source.on_read = full
    with pytest.raises(MemoryError):
        answer(data, kit, micro_batch=16)
    assert lines(data, "asked") == []
    answer(begun(kit, tmp_path), kit, micro_batch=2)
    with pytest.raises(LedgerError, match="micro_batch was 2, now it is 16"):
        answer(begun(kit, tmp_path), kit, micro_batch=16)


def test_a_copy_that_comes_second_is_refused_with_its_price_and_changes_nothing(
    kit: Kit, tmp_path: Path
) -> None:
    begun(kit, tmp_path / "run")
    copy = copied(tmp_path / "run", "copy")
    original = begun(kit, tmp_path / "run")
    original.release(around(0), label="means")
    before = {p: p.read_bytes() for p in (*copy.rglob("*"), original.ledger.path) if p.is_file()}
    source = kit.source()
    with pytest.raises(Overtaken) as refused:
        begun(kit, copy, source=source)
    words = str(refused.value)
    assert words.startswith("run run goes on elsewhere: another copy of its folder, begun at ")
    assert "from epsilon = 0.04 to 0.08 at delta = 1e-05; its limit is 50, which it has" in words
    assert "Continue in that folder, or start a new run folder" in words
    assert source.reads == []
    assert {p: p.read_bytes() for p in before} == before
    answer(original, kit)
    assert len(lines(original, "charge")) == 2


def test_what_a_copy_would_cost_beyond_the_limit_is_said(kit: Kit, tmp_path: Path) -> None:
    def begin(folder: Path) -> None:
        data = kit.dataset(kit.source(), folder, limit=Budget(0.05, 1e-5))
        data.begin("run", StageKeys(folder / "keys"), plan(kit))

    begin(tmp_path / "run")
    copy = copied(tmp_path / "run", "copy")
    begin(tmp_path / "run")
    with pytest.raises(Overtaken, match=r"to 0.08 .* its limit is 0.05, which it has no room for"):
        begin(copy)


def test_a_copy_that_is_begun_while_the_original_runs_stops_it_at_its_next_answer(
    kit: Kit, tmp_path: Path
) -> None:
    source = kit.source()
    data = begun(kit, tmp_path / "run", source=source)
    steps = data.steps(SGD, label="teacher", micro_batch=4)
    first = next(steps).gradient(kit.Linear(), kit.parameters())
    copy = begun(kit, copied(tmp_path / "run", "copy"))
    source.reads.clear()
    step = next(steps)
    with pytest.raises(Overtaken, match="goes on elsewhere"):
        step.gradient(kit.Linear(), kit.parameters())
    with pytest.raises(Overtaken, match="goes on elsewhere"):
        data.release(around(0), label="means")
    with pytest.raises(Overtaken, match="goes on elsewhere"):
        data.finish("teacher", SGD)
    assert source.reads == [] and lines(copy, "finished") == []
    steps.close()
    # The step that was refused has not run.
    assert [(line["start"], line["stop"]) for line in lines(copy, "executed")] == [(0, 1)]
    # What was answered before the copy began is answered again, alike.
    assert torch.equal(answer(copy, kit)[0]["w"], first["w"])
    copy.finish("teacher", SGD)
    with pytest.raises(Overtaken):
        begun(kit, tmp_path / "run")


def test_a_run_that_is_stopped_before_its_first_answer_notes_no_step(
    kit: Kit, tmp_path: Path
) -> None:
    """The note would stand before the copy's question, where nothing can have been answered."""
    data = begun(kit, tmp_path / "run")
    copy = begun(kit, copied(tmp_path / "run", "copy"))
    with pytest.raises(Overtaken):
        for step in data.steps(SGD, label="teacher", micro_batch=4):
            step.gradient(kit.Linear(), kit.parameters())
    assert lines(copy, "executed") == []


def test_a_copy_from_before_the_keys_had_an_owner_is_told_that_the_run_goes_on_elsewhere(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops(keys: StageKeys, owner: str) -> None:
        raise Stopped

    with monkeypatch.context() as patch, suppress(Stopped):
        patch.setattr(StageKeys, "bind", stops)
        begun(kit, tmp_path / "run")
    copy = copied(tmp_path / "run", "copy")
    begun(kit, tmp_path / "run")
    with pytest.raises(Overtaken, match="goes on elsewhere"):
        begun(kit, copy)


def test_a_copy_that_begins_between_the_sum_and_its_noise_gets_there_first(
    kit: Kit, tmp_path: Path
) -> None:
    source = kit.source()
    data = begun(kit, tmp_path / "run", source=source)
    copy = copied(tmp_path / "run", "copy")
    source.on_read = lambda: (setattr(source, "on_read", lambda: None), begun(kit, copy))  # type: ignore[assignment]
    with pytest.raises(Overtaken), heard() as found:
        data.release(around(0), label="means")
    assert found == []


def test_of_two_copies_that_begin_at_once_one_goes_on(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(kit, tmp_path / "run")
    copy = copied(tmp_path / "run", "copy")
    note, other = PrivacyLedger.note, []

    def late(ledger: PrivacyLedger, *given: Any) -> None:  # noqa: ANN401
        monkeypatch.setattr(PrivacyLedger, "note", note)
        other.append(begun(kit, copy))
        note(ledger, *given)

    monkeypatch.setattr(PrivacyLedger, "note", late)
    with pytest.raises(Overtaken):
        begun(kit, tmp_path / "run")
    other[0].release(around(0), label="means")
    with pytest.raises(Overtaken):
        begun(kit, tmp_path / "run")


def test_a_second_data_set_object_on_a_run_takes_it_over(kit: Kit, tmp_path: Path) -> None:
    first = begun(kit, tmp_path)
    second = begun(kit, tmp_path)
    with pytest.raises(Overtaken):
        first.release(around(0), label="means")
    second.release(around(0), label="means")


def test_a_finished_stage_is_never_answered_again_with_any_keys(kit: Kit, tmp_path: Path) -> None:
    begun(kit, tmp_path / "run")
    copy = copied(tmp_path / "run", "copy")
    data = begun(kit, tmp_path / "run")
    data.release(around(0), label="means")
    data.finish("means", around(0))
    data.finish("means", around(0))
    assert [line["label"] for line in lines(data, "finished")] == ["means"]
    with pytest.raises(LedgerError, match="stage 'means' of run run is finished and is never ans"):
        data.release(around(0), label="means")
    # A backup of the keys with all else of the folder that went on.
    for file in (tmp_path / "run" / "keys").iterdir():
        shutil.copy(file, copy / "keys")
    source = kit.source()
    forged = begun(kit, copy, source=source)
    assert list((copy / "keys").glob("*.key"))
    with pytest.raises(LedgerError, match="stage 'means' of run run is finished and is never ans"):
        forged.release(around(0), label="means")
    assert source.reads == []


def test_a_copy_that_lacks_a_finished_answer_does_not_stop_the_folder_that_has_it(
    kit: Kit, tmp_path: Path
) -> None:
    """Its marks are the last ones, but what is finished is never answered again: both would end."""
    data = begun(kit, tmp_path / "run")
    copy = copied(tmp_path / "run", "copy")
    data.release(around(0), label="means")
    data.finish("means", around(0))
    with pytest.raises(Overtaken, match="has gone further than this one"):
        begun(kit, copy)
    answer(data, kit)
    data.finish("teacher", SGD)


def test_a_copy_is_left_behind_also_by_a_stage_that_ends_while_it_begins(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = begun(kit, tmp_path / "run")
    copy = copied(tmp_path / "run", "copy")
    data.release(around(0), label="means")
    note = PrivacyLedger.note

    def late(ledger: PrivacyLedger, *given: Any) -> None:  # noqa: ANN401
        monkeypatch.setattr(PrivacyLedger, "note", note)
        data.finish("means", around(0))
        note(ledger, *given)

    monkeypatch.setattr(PrivacyLedger, "note", late)
    with pytest.raises(Overtaken):
        begun(kit, copy)
    answer(data, kit)


def test_a_backup_from_before_a_question_may_ask_the_same_and_nothing_else(
    kit: Kit, tmp_path: Path
) -> None:
    """All that is left of a run whose disk was lost."""
    data = begun(kit, tmp_path / "run")
    backup = copied(tmp_path / "run", "backup")
    first = answer(data, kit, stop=2)
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(LedgerError, match="this folder does not hold what that was"):
        answer(begun(kit, backup), kit, micro_batch=3)
    again = answer(begun(kit, backup), kit)
    assert all(torch.equal(a["w"], b["w"]) for a, b in zip(first, again, strict=False))
    with pytest.raises(LedgerError, match="micro_batch was 4, now it is 3"):
        answer(begun(kit, backup), kit, micro_batch=3)


@pytest.mark.parametrize("lost", ["keys", "marks"])
def test_a_run_without_its_marks_is_not_begun_anew_under_its_charge(
    lost: str, kit: Kit, tmp_path: Path
) -> None:
    begun(kit, tmp_path)
    if lost == "keys":
        shutil.rmtree(tmp_path / "keys")
    else:
        (tmp_path / "keys" / "lineage.json").unlink()
    with pytest.raises(Overtaken):
        begun(kit, tmp_path)


def test_a_run_that_was_begun_is_not_tied_anew_when_its_owner_file_is_gone(
    kit: Kit, tmp_path: Path
) -> None:
    """Other records, joined by --ledger, would be answered under the charge of the first ones."""
    ledger, held = tmp_path / "own.jsonl", StageKeys(tmp_path / "keys")
    kit.dataset(kit.source(), tmp_path, ledger=ledger).begin("run", held, plan(kit))
    owner = (tmp_path / "keys" / "owner").read_bytes()
    (tmp_path / "keys" / "owner").unlink()
    for seed in (0, 1):
        source = kit.source(seed=seed)
        data = kit.dataset(source, tmp_path, ledger=ledger)
        before = ledger.read_bytes()
        with pytest.raises(LedgerError, match="keys/owner is gone, .* restore the file, or start"):
            data.begin("run", held, plan(kit))
        assert source.reads == [] and ledger.read_bytes() == before
        assert not (tmp_path / "keys" / "owner").exists()
    (tmp_path / "keys" / "owner").write_bytes(owner)
    with pytest.raises(LedgerError, match="begun on other data"):
        data.begin("run", held, plan(kit))
    kit.dataset(kit.source(), tmp_path, ledger=ledger).begin("run", held, plan(kit))


def test_a_stage_goes_on_under_the_key_that_it_was_begun_with(kit: Kit, tmp_path: Path) -> None:
    """The same question under another key has another answer, and nothing was charged for two."""
    stage = Plan((Stage("teacher", SGD),), ADD_REMOVE)

    def resumed() -> PrivateDataset:
        source.reads.clear()
        data = kit.dataset(source, tmp_path)
        data.begin("run", StageKeys(tmp_path / "keys"), stage)
        return data

    source = kit.source()
    first = answer(resumed(), kit, stop=2)
    (held,) = (tmp_path / "keys").glob("*.key")
    kept = held.read_bytes()
    data = resumed()
    held.write_bytes(bytes(len(kept)))
    with pytest.raises(
        LedgerError,
        match=r"the secret key of stage 'teacher' of run run, .*\.key, is not the one that the "
        "stage was begun with.* put back the file .* or start a new run folder",
    ):
        answer(data, kit)
    assert source.reads == []
    held.write_bytes(kept)
    again = answer(resumed(), kit)
    assert all(torch.equal(a["w"], b["w"]) for a, b in zip(first, again, strict=False))


def test_a_stage_whose_line_commits_to_no_key_goes_on_as_before(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As earlier versions of dpgen wrote it."""
    note = descent.Descent.note

    def without(run: descent.Descent, kind: str, charge: Any, **more: str) -> None:  # noqa: ANN401
        note(run, kind, charge, **{k: v for k, v in more.items() if k != "commitment"})

    with monkeypatch.context() as patch:
        patch.setattr(descent.Descent, "note", without)
        answer(begun(kit, tmp_path), kit, stop=2)
    data = begun(kit, tmp_path)
    answer(data, kit)
    assert ["commitment" in line for line in lines(data, "asked")] == [False]


def test_a_commitment_is_another_one_for_every_key_and_plan() -> None:
    made = [KeyedNoise(key * 32, plan).commitment() for key in (b"a", b"b") for plan in ("p", "q")]
    assert len(set(made)) == 4 and all(len(x) == 64 for x in made)
    assert KeyedNoise(b"a" * 32, "p").commitment() == made[0]


def test_an_unfinished_run_of_an_earlier_version_is_refused_by_name(
    kit: Kit, tmp_path: Path
) -> None:
    """It was charged, and left no mark."""
    data, held = kit.dataset(kit.source(), tmp_path), StageKeys(tmp_path / "keys")
    for stage in plan(kit).stages:
        held.create(stage.charge.plan)
    data.ledger.charge("run", [stage.charge for stage in plan(kit).stages])
    held.bind(data._owner("run"))
    before = data.ledger.path.read_bytes()
    with pytest.raises(LedgerError, match="earlier version of dpgen, .* finish it with that v"):
        begun(kit, tmp_path)
    assert data.ledger.path.read_bytes() == before
    begun(kit, tmp_path / "other", run="other")


def test_a_question_that_was_edited_in_the_folder_contradicts_the_ledger(
    kit: Kit, tmp_path: Path
) -> None:
    answer(begun(kit, tmp_path), kit, stop=2)
    (path,) = (tmp_path / "keys").glob("*.asked.json")
    held = json.loads(path.read_text())
    held["stage"]["micro_batch"] = 3
    path.write_text(json.dumps(held))
    for micro_batch in (3, 4):
        with pytest.raises(LedgerError, match="is not what the ledger says"):
            answer(begun(kit, tmp_path), kit, micro_batch=micro_batch)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"current": 1, "pending": ""}', '{"current": ""}', "\x00"]
)
def test_damaged_marks_are_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "lineage.json").write_text(content)
    with pytest.raises(LedgerError, match=r"lineage.json is damaged: start a new run folder"):
        _ = Lineage(tmp_path).marks


def test_marks_lie_beside_the_keys_for_their_owner_alone(tmp_path: Path) -> None:
    held = Lineage(tmp_path)
    assert held.marks is None and held.question("plan") is None
    first = held.propose("")
    assert held.marks == Marks("", first) and len(first) == 32
    second = held.propose(first)
    assert held.marks == Marks(first, second) and first != second
    held.note("plan", {"stage": {}})
    assert held.question("plan") == {"stage": {}}
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.iterdir())


def test_a_running_stage_reads_the_ledger_again_only_when_it_has_changed(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = replace(SGD, n_steps=40)
    data = kit.dataset(kit.source(), tmp_path)
    data.begin("run", StageKeys(tmp_path / "keys"), Plan((Stage("teacher", many),), ADD_REMOVE))
    read, n_reads = LedgerFile._read, []
    monkeypatch.setattr(LedgerFile, "_read", lambda file: (n_reads.append(1), read(file))[1])
    for step in data.steps(many, label="teacher", micro_batch=4):
        step.gradient(kit.Linear(), kit.parameters())
    assert len(n_reads) < 10


def test_a_running_stage_reads_what_it_has_asked_once_and_still_hears_of_a_copy(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, n_reads = Lineage.question, []
    monkeypatch.setattr(
        Lineage, "question", lambda held, stage: (n_reads.append(stage), real(held, stage))[1]
    )
    many = replace(SGD, n_steps=6)
    data = kit.dataset(kit.source(), tmp_path / "run")
    stages = Plan((Stage("teacher", many),), ADD_REMOVE)
    data.begin("run", StageKeys(tmp_path / "run" / "keys"), stages)
    steps = data.steps(many, label="teacher", micro_batch=4)
    for _ in range(3):
        next(steps).gradient(kit.Linear(), kit.parameters())
    assert len(n_reads) == 1
    with pytest.raises(LedgerError, match="objective.scale was 1.0, now it is 3.0"):
        next(steps).gradient(kit.Linear(3.0), kit.parameters())
    copy = kit.dataset(kit.source(), copied(tmp_path / "run", "copy"))
    copy.begin("run", StageKeys(tmp_path / "copy" / "keys"), stages)
    with pytest.raises(Overtaken):
        next(steps).gradient(kit.Linear(), kit.parameters())


def lived(kit: Kit, folder: Path) -> dict[str, Tensor]:
    """A run from its begin, or wherever it was stopped, to its end: what it released."""
    data, states = kit.dataset(kit.source(), folder), Checkpoints(folder / "state", 0.0)
    stages = (Stage("means", NARROW), Stage("teacher", SGD))
    data.begin("run", StageKeys(folder / "keys"), Plan(stages, ADD_REMOVE))
    tables = released(data, "means", NARROW, states, False)
    held = states.load("teacher")
    w, start = (kit.parameters(), 0) if held is None else (held[0], held[1]["step"])
    if held is None:
        states.save("teacher", w, step=0)
    if start < N_STEPS:
        for step in data.steps(SGD, label="teacher", start=start, micro_batch=4):
            gradient = step.gradient(kit.Linear(), w)
            w = {name: value - 0.1 * gradient[name] for name, value in w.items()}
            data.save_state(states, "teacher", w, step=step.index + 1)
    data.finish("teacher", SGD)
    return {**tables, **w}


class Stopped(BaseException):
    """The machine went down."""


WRITES = (
    (keys, "replace_durably"), (lineage, "replace_durably"), (ledger_file, "replace_durably"),
    (checkpoint, "replace_durably"), (answers, "replace_durably"),
    (LedgerFile, "append"), (StageKeys, "forget"), (answers.Answers, "add"),
    (answers.Answers, "forget"),
)  # fmt: skip


@contextmanager
def stopping(at: int, *, before: bool) -> Iterator[Callable[[], int]]:
    """Everything stops before or after write number ``at``, and no later one reaches the disk."""
    numbers = count()
    n_writes = 0

    def stops(real: Callable[..., Any]) -> Callable[..., Any]:
        def write(*given: Any, **named: Any) -> Any:  # noqa: ANN401
            nonlocal n_writes
            number = next(numbers)
            n_writes = number + 1
            if number > at or before and number == at:
                raise Stopped
            made = real(*given, **named)
            if number == at:
                raise Stopped
            return made

        return write

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in WRITES:
            patch.setattr(owner, name, stops(getattr(owner, name)))
        yield lambda: n_writes


# A generator that is closed when everything has stopped fails to write its note, and nobody hears.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_run_that_stops_at_any_of_its_writes_goes_on_to_the_same_answers_and_pays_once(
    before: bool, kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys, marks, charges, questions, states, notes, finished lines, the deletion of keys: the
    first life stops at each of them in turn, and every third second life somewhere, too.
    """
    monkeypatch.setattr(keys, "new_key", lambda: b"k" * 32)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no power is lost here
    monkeypatch.setenv("DPGEN_HOME", str(tmp_path / "whole home"))
    with stopping(10**6, before=before) as n_writes:
        whole = lived(kit, tmp_path / "whole")
        n = n_writes()
    assert n >= 30
    for at in range(n):
        folder = tmp_path / f"{at}"
        monkeypatch.setenv("DPGEN_HOME", str(folder / "home"))
        with pytest.raises(Stopped), stopping(at, before=before):
            lived(kit, folder)
        if at % 3 == 0:
            with suppress(Stopped), stopping(at % 7, before=not before):
                lived(kit, folder)
        found = lived(kit, folder)
        assert found.keys() == whole.keys()
        assert all(torch.equal(found[name], whole[name]) for name in whole), at
        data = kit.dataset(kit.source(), folder)
        assert_one_descent(data)
        assert not list((folder / "keys").glob("*.key"))
        assert not list(folder.rglob("*.partial")) + list(folder.rglob("*.answers"))


def assert_one_descent(data: PrivateDataset) -> None:
    """Charged once, asked once, made as often as charged, finished once; marks are a chain."""
    held = data.ledger.lines_of("run")
    for kind in ("charge", "asked", "finished"):
        assert [x["label"] for x in held if x["kind"] == kind] == ["means", "teacher"], kind
    assert releases_of(held) == {
        "means": {"charged": 1, "executed": 1},
        "teacher": {"charged": N_STEPS, "executed": N_STEPS},
    }
    marks = [x for x in held if x["kind"] == "lineage"]
    assert [x["previous"] for x in marks] == ["", *(x["mark"] for x in marks[:-1])]
    assert len({x["mark"] for x in marks}) == len(marks)
    order = [(x["kind"], x.get("label")) for x in held]
    for label in ("means", "teacher"):
        where = [order.index((kind, label)) for kind in ("charge", "asked", "finished")]
        assert where == sorted(where)
        assert order.index(("charge", "teacher")) < order.index(("lineage", None)) < where[1]


def test_a_pending_mark_is_on_disk_before_the_ledger_knows_it(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the other order a kill between the two would look like a copy."""
    note, seen = PrivacyLedger.note, []

    def watched(ledger: PrivacyLedger, body: dict[str, Any], *rest: Any) -> None:  # noqa: ANN401
        seen.append((body["mark"], Lineage(tmp_path / "keys").marks))
        note(ledger, body, *rest)

    monkeypatch.setattr(PrivacyLedger, "note", watched)
    for _ in range(3):
        begun(kit, tmp_path)
    marks = [mark for mark, _ in seen]
    assert [held for _, held in seen] == [
        Marks(previous, mark) for previous, mark in zip(["", *marks[:-1]], marks, strict=True)
    ]
