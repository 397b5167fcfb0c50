"""What a run would take is told before it is charged, and asked about where it is much."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from dpgen.commands import consent
from dpgen.commands import estimate as estimates
from dpgen.commands.cli import main
from dpgen.methods.dpdm import DPDM
from dpgen.runs import machine
from dpgen.runs.context import Rehearsal
from tests.commands import dpgen

pytestmark = pytest.mark.usefixtures("one_thread", "home", "remembering_accountant")

TINY = [
    f"--set={name}={value}"
    for name, value in {
        "teacher.n_steps": 2, "teacher.n_draws": 1, "teacher.batch": 10, "teacher.bands": 3,
        "teacher.warm_start_share": 0.5, "sampling_steps": 2,
    }.items()
]  # fmt: skip
DAY = Rehearsal(86_400.0, 2**30, 1000, "CPU")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "private.npz"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.savez(path, images=pixels, labels=np.arange(40) % 2, class_names=np.array(["0", "1"]))
    return path


def arguments(archive: Path, out: Path, *more: object, epsilon: float = 0.3) -> list[str]:
    given = ["dpdm", "--data", archive, "--epsilon", epsilon, "--delta", "1e-3", *TINY]
    return [str(x) for x in ["train", *given, "--device", "cpu", "--out", out, "-q", *more]]


def train(archive: Path, out: Path, *more: object, epsilon: float = 0.3) -> Result:
    return dpgen(*arguments(archive, out, *more, epsilon=epsilon))


def takes_a_day(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DPDM, "rehearse", lambda *_: DAY)


def test_a_run_of_a_day_is_not_charged_without_a_yes(
    archive: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes_a_day(monkeypatch)
    told = train(archive, tmp_path / "run")
    assert told.exit_code == 2 and "expect little more than the average" in told.stderr
    assert "about 24 hours" in told.stderr and "nothing was charged" in told.stderr
    assert "--yes" in told.stderr
    assert not (tmp_path / "run").exists() and not list(home.rglob("*.jsonl"))
    assert train(archive, tmp_path / "run", "--yes").exit_code == 0


@pytest.mark.parametrize(("answer", "exit_code"), [("n", 1), ("", 1), ("y", 0)])
def test_on_a_terminal_it_asks(
    answer: str, exit_code: int, archive: Path, tmp_path: Path, home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    takes_a_day(monkeypatch)
    monkeypatch.setattr(consent, "_somebody_is_there", lambda: True)
    told = CliRunner().invoke(main, arguments(archive, tmp_path / "run"), input=f"{answer}\n")
    assert told.exit_code == exit_code
    assert "would take about 24 hours. Go on?" in told.stderr
    assert (tmp_path / "run").exists() == bool(list(home.rglob("*.jsonl"))) == (exit_code == 0)


@pytest.mark.parametrize(
    ("busy", "words"), [(0.4, "free: load 0.4"), (6.0, "up to 8 minutes: load")]
)
def test_the_estimate_says_how_long_a_run_takes_beside_others(
    busy: float, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimates, "load", lambda: (busy, 2))
    told = estimates.estimate(Rehearsal(120.0, 2**30, 1000, "CPU"))
    assert told.startswith("about 2 minutes and 1.0 GiB on this CPU") and words in told


def test_what_memory_cannot_hold_is_refused_and_a_yes_does_not_help(
    archive: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DPDM, "rehearse", lambda *_: Rehearsal(1.0, 2**50, 1000, "CPU"))
    told = train(archive, tmp_path / "run", "--yes")
    assert told.exit_code == 2 and "the run would take 10485" in told.stderr
    assert "GiB left: nothing was charged" in told.stderr and "--micro-batch" in told.stderr
    assert not list(home.rglob("*.jsonl"))


def test_what_fails_in_the_rehearsal_is_not_charged(
    archive: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Rehearsal:
        raise MemoryError("out of memory: lower --micro-batch")

    monkeypatch.setattr(DPDM, "rehearse", full)
    assert train(archive, tmp_path / "run").exit_code == 3
    assert not (tmp_path / "run").exists() and not list(home.rglob("*.jsonl"))


def test_a_charged_run_goes_on_unasked(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    def unwanted(*_: object) -> Rehearsal:
        raise AssertionError("nothing is left to decide")

    with monkeypatch.context() as patch:
        patch.setattr(DPDM, "_learn", stopped)
        assert train(archive, tmp_path / "run").exit_code == 130
    monkeypatch.setattr(DPDM, "rehearse", unwanted)
    assert train(archive, tmp_path / "run").exit_code == 0
    assert "finished already" in train(archive, tmp_path / "run").stderr


def test_a_run_that_takes_most_of_what_is_left_asks(archive: Path, tmp_path: Path) -> None:
    """The first run chooses the limit; there is nothing yet to take most of."""
    assert train(archive, tmp_path / "a", "--limit", "0.5", epsilon=0.2).exit_code == 0
    told = train(archive, tmp_path / "b", epsilon=0.35)
    assert told.exit_code == 2
    assert "has spent epsilon = 0.2 of its limit 0.5, and would have spent 0.4" in told.stderr
    assert train(archive, tmp_path / "b", "--yes", epsilon=0.35).exit_code == 0
    told = train(archive, tmp_path / "c", "--yes", epsilon=0.4)
    assert told.exit_code == 2 and "limit" in told.stderr and "about" not in told.stderr


def test_without_a_method_one_is_chosen_and_named(archive: Path) -> None:
    told = dpgen("plan", "--data", archive, "--epsilon", "3", "--device", "cpu")
    assert told.exit_code == 0, told.stderr
    assert told.stdout.startswith("pge/sketch on 40 records of 1x8x8")
    assert "chosen: pge in mode sketch" in told.stderr
    assert "the same as: pge --set mode=sketch" in told.stderr
    other = dpgen("plan", "--data", archive, "--epsilon", "-3", "--device", "cpu")
    assert other.exit_code == 2 and "epsilon" in other.stderr


@pytest.mark.parametrize(("epsilon", "drowned"), [("0.001", True), ("3", False)])
def test_a_plan_says_where_nothing_would_be_learned(
    epsilon: str, drowned: bool, archive: Path
) -> None:
    told = dpgen("plan", "dpdm", "--data", archive, "--epsilon", epsilon, *TINY, "--device", "cpu")
    assert told.exit_code == 0, told.stderr
    assert ("nothing would be learned" in told.stdout) == drowned
    assert ("expect little more than the average" in told.stdout) != drowned
    then = f"next: dpgen {'plan' if drowned else 'train'} dpdm --data"
    assert then in told.stderr
    assert told.stderr.count("--epsilon 3") == 1  # ten times as much, and at least 3


def test_a_run_that_would_learn_nothing_is_not_charged_without_a_yes(
    archive: Path, tmp_path: Path, home: Path
) -> None:
    told = train(archive, tmp_path / "run", epsilon=0.001)
    assert told.exit_code == 2 and "nothing would be learned: nothing was charged" in told.stderr
    assert "take a greater epsilon or delta, or more records" in told.stderr
    assert not (tmp_path / "run").exists() and not list(home.rglob("*.jsonl"))


def test_large_images_are_made_small_enough_for_this_machine(tmp_path: Path) -> None:
    path = tmp_path / "large.npz"
    np.savez(
        path, images=np.zeros((20, 96, 96, 3), np.uint8), labels=np.arange(20) % 2,
        class_names=np.array(["0", "1"]),
    )  # fmt: skip
    told = dpgen("plan", "--data", path, "--epsilon", "3", "--device", "cpu")
    assert "chosen: --size 32, as 96x96 takes too long here" in told.stderr
    assert "the same as: pge --set mode=sketch --size 32" in told.stderr
    assert "20 records of 3x32x32" in told.stdout


def test_a_container_has_less_memory_than_its_machine(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert machine._container(tmp_path) == [600]
    (tmp_path / "memory.max").write_text("max\n")
    assert machine._container(tmp_path) == [] == machine._container(tmp_path / "none")
    assert 0 < machine.available_memory() < 2**50
