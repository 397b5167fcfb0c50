"""The benchmark's books: which cells run, in what order, and what is on disk after anything."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dpgen.benchmark.schedule import BenchmarkSettings, Entry, held, run

TOML = """
data = "digits"
epsilons = [1, 10]
seeds = 2
[[methods]]
label = "DP-SAD (sealed)"
method = "dp-sad"
[methods.settings.teacher]
n_steps = 3
[[methods]]
label = "dpdm"
method = "dpdm"
teacher_of = "DP-SAD (sealed)"
"""
TWO = (Entry("a", "x"), Entry("b", "y", teacher_of="a"))


def settings(**changes: Any) -> BenchmarkSettings:  # noqa: ANN401
    few = {"data": "digits", "entries": TWO, "epsilons": (1.0,), "seeds": 1}
    return BenchmarkSettings(**(few | changes))


# A module of its own, which the cells' processes can import wherever they start.
STAND_INS = '''
import os, signal, time

def record(settings, cell, folder):
    began = time.monotonic()
    with (folder / "calls.txt").open("a") as calls:
        calls.write(cell.name + "\\n")
    return {"metrics": {"began": began, "ended": time.monotonic()}}

def meet(settings, cell, folder):
    """Ends when the other seed of its label has begun, too."""
    (folder / f"{cell.label}{cell.seed}").touch()
    while not (folder / f"{cell.label}{1 - cell.seed}").exists():
        time.sleep(0.01)
    return {}

def fail_for_b(settings, cell, folder):
    if cell.label == "b" and not (folder / "cured").exists():
        raise ValueError("b does not work today")
    return record(settings, cell, folder)

def outlive(settings, cell, folder):
    (folder / "pid.partial").write_text(str(os.getpid()))
    (folder / "pid.partial").rename(folder / "pid")
    time.sleep(60)

def fill_the_disk(settings, cell, folder):
    """Its result cannot be written any more."""
    from dpgen.benchmark import schedule as benchmark
    benchmark.replace_durably = full
    return {}

def full(path, content):
    raise OSError(28, "no space", str(path))

def die_for_a(settings, cell, folder):
    if cell.label == "a":
        os.kill(os.getpid(), signal.SIGKILL)
    return record(settings, cell, folder)
'''


@pytest.fixture
def stand_ins(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> ModuleType:
    folder = tmp_path_factory.mktemp("modules")
    (folder / "cell_stand_ins.py").write_text(STAND_INS)
    monkeypatch.syspath_prepend(folder)
    sys.modules.pop("cell_stand_ins", None)
    return importlib.import_module("cell_stand_ins")


def do_all(s: BenchmarkSettings, folder: Path, do: Any, jobs: int = 2) -> list[int]:  # noqa: ANN401
    seen: list[int] = []
    run(s, folder, do, jobs=jobs, show=False, finished=lambda cells: seen.append(len(cells)))
    return seen


def calls(folder: Path) -> list[str]:
    return (folder / "calls.txt").read_text().split()


def test_the_file_says_what_is_compared(tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_text(TOML)
    s = BenchmarkSettings.load(tmp_path / "b.toml")
    assert s.entries[0].settings == {"teacher": {"n_steps": 3}}
    assert s.epsilons == (1.0, 10.0) and s.n_samples == 10_000 and not s.public_data
    assert [cell.name for cell in s.cells()][:3] == [
        "dp-sad--sealed-eps1-seed0", "dpdm-eps1-seed0", "dp-sad--sealed-eps10-seed0",
    ]  # fmt: skip
    assert len(s.cells()) == 8


@pytest.mark.parametrize(
    ("said", "classes"), [("", None), ("classes = 10", 10), ('classes = ["a", "b"]', ("a", "b"))]
)
def test_the_file_names_the_classes_that_data_do_not(
    tmp_path: Path, said: str, classes: object
) -> None:
    (tmp_path / "b.toml").write_text(f"{said}\n{TOML}")
    assert BenchmarkSettings.load(tmp_path / "b.toml").classes == classes


def test_a_cell_that_names_no_classes_is_known_from_before_there_was_a_choice() -> None:
    cell = settings().cells()[0]
    assert settings().identity(cell) == (
        "8be3a6112f4d23cad1c546b39dcc8f160f3f059865d4c5df9ea72e1153ec9453"
    )
    assert settings(classes=10).identity(cell) != settings().identity(cell)


def test_what_other_ledgers_hold_changes_no_number_of_a_cell() -> None:
    cell = settings().cells()[0]
    assert settings(overlap="charge").identity(cell) == settings().identity(cell)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("seedz = 2", "unknown setting 'seedz': the nearest is 'seeds'"),
        ('features = "vgg"', "features must be classifier or inception, got 'vgg'"),
        ('networks = ["mlp", "vgg"]', "networks must be among logistic, mlp, .*, got 'vgg'"),
        ("n_samples = 0", "n_samples must be at least 1, got 0"),
        ("epsilons = [-1]", "epsilons must be positive numbers"),
        ('overlap = "ignore"', "overlap must be one of refuse, charge, separate, got 'ignore'"),
        ("= = =", "must be TOML"),
    ],
)
def test_a_bad_file_is_refused_in_words(tmp_path: Path, changed: str, message: str) -> None:
    text = TOML.replace("epsilons = [1, 10]", "") if "epsilons" in changed else TOML
    (tmp_path / "b.toml").write_text(changed + "\n" + text)
    with pytest.raises(ValueError, match=message):
        BenchmarkSettings.load(tmp_path / "b.toml")


def test_a_teacher_comes_from_a_method_that_is_trained() -> None:
    for entries in (
        (Entry("a", "x", teacher_of="a"),),
        (Entry("a", "x"), Entry("b", "y", teacher_of="a"), Entry("c", "y", teacher_of="b")),
        (Entry("a", "x"), Entry("b", "y", teacher_of="c")),
    ):
        with pytest.raises(ValueError, match="teacher_of of .* must be the label of a method"):
            settings(entries=entries)
    with pytest.raises(ValueError, match="no two alike"):
        settings(entries=(Entry("a b", "x"), Entry("a-b", "x")))


def test_each_cell_runs_once_and_a_finished_one_never_again(
    stand_ins: ModuleType, tmp_path: Path
) -> None:
    s = settings(seeds=2)
    assert do_all(s, tmp_path, stand_ins.record, jobs=1) == [1, 2, 3, 4]
    first = {cell["label"] + str(cell["seed"]): cell["metrics"] for cell in held(s, tmp_path)}
    assert sorted(calls(tmp_path)) == sorted(cell.name for cell in s.cells())
    assert do_all(s, tmp_path, stand_ins.record) == []
    more = settings(seeds=3)
    assert do_all(more, tmp_path, stand_ins.record, jobs=1) == [5, 6]
    again = {cell["label"] + str(cell["seed"]): cell["metrics"] for cell in held(s, tmp_path)}
    assert again == first and len(calls(tmp_path)) == 6


def test_who_draws_from_a_teacher_waits_for_it_and_others_do_not(
    stand_ins: ModuleType, tmp_path: Path
) -> None:
    s = settings(seeds=2)
    do_all(s, tmp_path, stand_ins.record)
    of = {(cell["label"], cell["seed"]): cell["metrics"] for cell in held(s, tmp_path)}
    assert all(of["b", k]["began"] >= of["a", k]["ended"] for k in (0, 1))
    assert [cell["shared"] for cell in held(s, tmp_path)] == [None, "a", None, "a"]


def test_as_many_cells_run_at_once_as_jobs_say(stand_ins: ModuleType, tmp_path: Path) -> None:
    s = settings(seeds=2, entries=TWO[:1])
    do_all(s, tmp_path, stand_ins.meet, jobs=2)  # would wait for ever with one
    assert [cell["status"] for cell in held(s, tmp_path)] == ["done", "done"]


def test_a_cell_that_fails_says_why_and_is_tried_again(
    stand_ins: ModuleType, tmp_path: Path
) -> None:
    s = settings(seeds=2)
    do_all(s, tmp_path, stand_ins.fail_for_b)
    found = {(c["label"], c["seed"]): (c["status"], c["error"]) for c in held(s, tmp_path)}
    assert found["a", 0] == ("done", None)
    assert found["b", 1] == ("failed", "b does not work today")
    (tmp_path / "cured").touch()
    do_all(s, tmp_path, stand_ins.fail_for_b)
    assert {c["status"] for c in held(s, tmp_path)} == {"done"}
    assert calls(tmp_path).count("a-eps1-seed0") == 1


def test_a_process_that_is_killed_leaves_a_failed_cell_and_the_others(
    stand_ins: ModuleType, tmp_path: Path
) -> None:
    s = settings()
    do_all(s, tmp_path, stand_ins.die_for_a)
    a, b = held(s, tmp_path)
    assert (a["status"], b["status"]) == ("failed", "done")
    assert "killed" in a["error"]


def test_a_folder_of_other_settings_is_refused_and_kept(
    stand_ins: ModuleType, tmp_path: Path
) -> None:
    do_all(settings(), tmp_path, stand_ins.record)
    before = {p: p.read_bytes() for p in tmp_path.rglob("cell.json")}
    for other in (settings(n_samples=5), settings(entries=(Entry("a", "x", {"k": 1}), TWO[1]))):
        with pytest.raises(ValueError, match="was made with other settings than the file's"):
            do_all(other, tmp_path, stand_ins.record)
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("cell.json")}
    # What does not change a cell's numbers does not matter.
    assert do_all(settings(title="other", ceiling=True), tmp_path, stand_ins.record) == []
    assert json.loads(next(iter(before.values())))["identity"]


def test_a_cell_that_cannot_write_says_so_in_a_line_and_is_a_failed_one(
    stand_ins: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    s = settings(entries=TWO[:1])
    do_all(s, tmp_path, stand_ins.fill_the_disk)
    (cell,) = held(s, tmp_path)
    assert cell["status"] == "failed" and "could write nothing" in cell["error"]
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("failed: a-eps1-seed0: ") and "no space" in line


PARENT = """
import sys
from pathlib import Path
import cell_stand_ins
from dpgen.benchmark.schedule import BenchmarkSettings, Entry, run

if __name__ == "__main__":
    s = BenchmarkSettings(data="digits", entries=(Entry("a", "x"),), epsilons=(1.0,), seeds=1)
    run(s, Path(sys.argv[1]), cell_stand_ins.outlive, jobs=1, show=False, finished=print)
"""


def test_a_cell_ends_with_its_benchmark_however_that_ends(
    stand_ins: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    path = os.pathsep.join([str(Path(str(stand_ins.__file__)).parent), *sys.path])
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "parent.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path},
    )
    while not (tmp_path / "pid").exists():
        assert parent.poll() is None
        time.sleep(0.01)
    cell = int((tmp_path / "pid").read_text())
    parent.kill()
    parent.wait()
    end = time.monotonic() + 20
    try:
        while alive(cell) and time.monotonic() < end:
            time.sleep(0.01)
        assert not alive(cell)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(cell, signal.SIGKILL)


def alive(pid: int) -> bool:
    """Also false for a zombie that nobody waits for."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
