"""The account of given teachers: charged before the first is asked, and recognised afterwards."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from dpgen.data.private import PrivateDataset
from dpgen.data.teachers import PrivateTeachers, open_teachers
from dpgen.networks.student import ClassifierConfig, Student
from dpgen.privacy.accounting.accountant import Budget, epsilon_of
from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.ledger.charges import executed_releases
from dpgen.privacy.ledger.privacy_ledger import BudgetExceeded
from dpgen.privacy.ledger.shared_ledger import OverlapError
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.lineage.memory import Overtaken
from dpgen.privacy.mechanisms.ensemble import FixedEnsemble, Votes
from dpgen.privacy.mechanisms.noisy_ensemble import Ensemble
from dpgen.privacy.plan import Plan, Stage
from dpgen.runs.checkpoint import Checkpoints
from dpgen.runs.classifier_file import save_classifier
from dpgen.training.students import untrained

Kit = Any  # what conftest.py shares
LABEL, K = "votes", 3
LIMIT = Budget(50.0, 1e-5)
CONFIG = ClassifierConfig((1, 8, 8), 3, 8)
QUERIES = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(3))


def student(seed: int) -> Student:
    return untrained(CONFIG, seed)


def silos(folder: Path, *seeds: int, names: str = "abcdef") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, seed in zip(names, seeds, strict=False):
        save_classifier(student(seed), folder / f"{name}.safetensors", ("x", "y", "z"))
    return folder


def mechanism(n: int = K) -> FixedEnsemble:
    return FixedEnsemble(Votes(3), n, 4, 2.0)


def begun(folder: Path, place: Path, *, run: str = "run", limit: Budget = LIMIT) -> PrivateTeachers:
    data = open_teachers(folder)
    data.open_ledger(limit, place)
    stage = Stage(LABEL, mechanism(data.facts.n_records))
    data.begin(run, StageKeys(place / "keys"), Plan((stage,), data.facts.relation))
    return data


def opened(data: PrivateTeachers, place: Path) -> Ensemble:
    return data.ensemble(
        mechanism(data.facts.n_records), label=LABEL, checkpoints=Checkpoints(place / "state"),
        seed=7, stand_in=lambda queries: torch.zeros(len(queries), 3),
    )  # fmt: skip


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a new process knows: nothing of the answers of this one."""
    monkeypatch.setattr("dpgen.privacy.lineage.witness._ANSWERED", {})


def watched(data: PrivateTeachers, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Notes every time that the teachers are taken out of their slots."""
    times: list[int] = []
    real = data._slots.teachers

    def teachers() -> Any:  # noqa: ANN401
        times.append(1)
        return real()

    monkeypatch.setattr(data._slots, "teachers", teachers)
    return times


def test_no_teacher_is_asked_before_the_run_is_charged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = silos(tmp_path / "silos", 1, 2, 3)
    data = open_teachers(folder)
    times = watched(data, monkeypatch)
    data.open_ledger(LIMIT, tmp_path)
    with pytest.raises(RuntimeError, match="has charged the run"):
        opened(data, tmp_path)
    with pytest.raises(BudgetExceeded, match="Nothing was read"):
        begun(folder, tmp_path / "poor", limit=Budget(0.1, 1e-5))
    assert not times and not list((tmp_path / "home" / "ledgers").glob("*.jsonl"))
    data = begun(folder, tmp_path)
    times = watched(data, monkeypatch)
    opened(data, tmp_path).ask(QUERIES)
    assert times and executed_releases(data.ledger.lines()) == {LABEL: 4}


def test_the_same_teachers_in_another_folder_or_order_are_one_account_that_adds_up(
    tmp_path: Path,
) -> None:
    limit = Budget(7.0, 1e-5)
    first = begun(silos(tmp_path / "silos", 1, 2, 3), tmp_path / "one", limit=limit)
    moved = silos(tmp_path / "moved", 3, 1, 2, names="pqr")
    again = begun(moved, tmp_path / "two", run="other", limit=limit)
    assert first.ledger.path == again.ledger.path
    assert again.account()["runs"] == 2
    assert again.account()["total_epsilon"] > 1.3 * first_price(again)
    with pytest.raises(BudgetExceeded, match="is spent, and with this run it would be"):
        begun(moved, tmp_path / "three", run="third", limit=limit)


def first_price(data: PrivateTeachers) -> float:
    return epsilon_of(mechanism().event, 1e-5, data.facts.relation)


def test_a_list_that_shares_a_teacher_with_another_is_refused_or_charged_there_too(
    tmp_path: Path,
) -> None:
    first = begun(silos(tmp_path / "silos", 1, 2, 3), tmp_path / "one")
    more = silos(tmp_path / "more", 1, 2, 3, 4)
    with pytest.raises(OverlapError, match="4 different teachers of these data, 3 different teach"):
        begun(more, tmp_path / "two")
    data = open_teachers(more, overlap="charge")
    data.open_ledger(LIMIT, tmp_path / "two")
    stage = Stage(LABEL, mechanism(4))
    keys = StageKeys(tmp_path / "two" / "keys")
    data.begin("other", keys, Plan((stage,), data.facts.relation))
    assert first.account()["runs"] == 2 and first.ledger.path != data.ledger.path
    assert first.account()["record_total_epsilon"] > first_price(first)


@pytest.mark.parametrize("change", ["weights", "one more", "one less"])
def test_a_resume_with_other_teachers_is_refused(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = silos(tmp_path / "silos", 1, 2, 3)
    opened(begun(folder, tmp_path), tmp_path).ask(QUERIES[:2])
    forget(monkeypatch)
    if change == "one less":
        (folder / "c.safetensors").unlink()
    else:
        silos(folder, 5, names="c" if change == "weights" else "d")
    with pytest.raises(LedgerError, match="begun on other data|share|different teachers"):
        begun(folder, tmp_path)
    with pytest.raises(LedgerError, match="begun on other data"):
        data = open_teachers(folder, overlap="separate")
        data.open_ledger(LIMIT, tmp_path)
        stage = Stage(LABEL, mechanism(data.facts.n_records))
        data.begin("run", StageKeys(tmp_path / "keys"), Plan((stage,), data.facts.relation))


def test_a_kill_between_answer_and_save_repeats_the_answers_and_saved_ones_ask_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = silos(tmp_path / "silos", 1, 2, 3)
    given: list[torch.Tensor] = []
    with monkeypatch.context() as patch:

        def killed(self: Checkpoints, name: str, tensors: Any, **rest: Any) -> None:  # noqa: ANN401
            given.append(tensors["answers"].clone())
            raise OSError("the disk is full")

        patch.setattr(Checkpoints, "save", killed)
        with pytest.raises(OSError, match="full"):
            opened(begun(folder, tmp_path), tmp_path).ask(QUERIES)
    forget(monkeypatch)
    assert torch.equal(opened(begun(folder, tmp_path), tmp_path).ask(QUERIES), given[0])
    forget(monkeypatch)
    data = begun(folder, tmp_path)
    times = watched(data, monkeypatch)
    ensemble = opened(data, tmp_path)
    with pytest.raises(LedgerError, match="asks another question|other parameters"):
        ensemble.ask(QUERIES + 1)
    assert torch.equal(ensemble.ask(QUERIES), given[0]) and not times


def test_a_copy_of_a_run_gets_no_answers_beside_the_original(tmp_path: Path) -> None:
    folder, run = silos(tmp_path / "silos", 1, 2, 3), tmp_path / "run"
    original = begun(folder, run)
    shutil.copytree(run, tmp_path / "copy")
    ensemble = opened(original, run)
    begun(folder, tmp_path / "copy")
    with pytest.raises(Overtaken):
        ensemble.ask(QUERIES)


def test_teachers_have_no_other_door_and_images_none_of_this(kit: Kit, tmp_path: Path) -> None:
    data = begun(silos(tmp_path / "silos", 1, 2, 3), tmp_path)
    assert not any(hasattr(data, name) for name in ("release", "steps", "unprotected_records"))
    with pytest.raises(TypeError, match="not read as images"):
        data._source.read([0])
    facts = data.facts
    with pytest.raises(ValueError, match="fixed_slots is for teachers"):
        PrivateDataset(kit.source(), facts=facts)
