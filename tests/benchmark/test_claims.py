"""Cells that several machines share: one holds each, and what a dead one held is taken again."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dpgen.benchmark import claims as module
from dpgen.benchmark import schedule
from dpgen.benchmark.claims import Claims, overtaken
from dpgen.benchmark.schedule import BenchmarkSettings, Entry

ELSEWHERE = "another-machine 1\n"


@pytest.fixture
def claims() -> Iterator[Claims]:
    with Claims() as found:
        yield found


@pytest.fixture
def others() -> Iterator[Claims]:
    with Claims() as found:
        yield found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of the clock that claims are looked at with."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_of_many_at_once_one_takes_a_cell_and_after_it_the_next(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for number in (1, 2, 3):
            many = [Claims() for _ in range(8)]
            taken = list(pool.map(lambda own: own.take(tmp_path), many))
            assert [n for n in taken if n is not None] == [number]
            many[taken.index(number)].release(tmp_path)


def test_a_claim_that_was_made_since_the_folder_was_read_stands(
    claims: Claims, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "claim.1").write_text(ELSEWHERE)
    monkeypatch.setattr(module, "_last", lambda _: 0)
    assert claims.take(tmp_path) is None
    assert (tmp_path / "claim.1").read_text() == ELSEWHERE


def test_what_is_held_is_not_taken_and_what_is_given_up_is(
    claims: Claims, others: Claims, tmp_path: Path
) -> None:
    assert claims.take(tmp_path) == 1
    assert others.take(tmp_path) is None and not others.is_over(tmp_path)
    claims.release(tmp_path)
    assert others.is_over(tmp_path) and others.take(tmp_path) == 2
    assert claims.take(tmp_path) is None
    assert overtaken(tmp_path, 1) and not overtaken(tmp_path, 2)


def test_a_process_that_died_on_this_machine_holds_nothing(claims: Claims, tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from dpgen.benchmark.claims import Claims\n"
        "assert Claims().take(Path(sys.argv[1])) == 1; os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)]).returncode == 9
    assert claims.take(tmp_path) == 2


def test_a_machine_that_stops_touching_its_claim_loses_it_and_one_that_touches_it_does_not(
    claims: Claims, clock: list[float], tmp_path: Path
) -> None:
    (tmp_path / "claim.1").write_text(ELSEWHERE)
    for beat in range(5):  # it is touched whenever half of the time is over
        assert claims.take(tmp_path) is None
        os.utime(tmp_path / "claim.1", (beat, beat))
        clock[0] += 0.6 * module.LOST
    assert claims.take(tmp_path) is None
    clock[0] += 1.01 * module.LOST
    assert claims.take(tmp_path) == 2


def test_a_claim_whose_words_were_not_written_yet_is_a_claim(
    claims: Claims, clock: list[float], tmp_path: Path
) -> None:
    (tmp_path / "claim.1").touch()
    assert claims.take(tmp_path) is None
    clock[0] += 1.01 * module.LOST
    assert claims.take(tmp_path) == 2


def test_a_claim_that_could_not_be_written_is_not_left_for_others_to_wait_for(
    claims: Claims, others: Claims, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "write", full)
        with pytest.raises(OSError, match="no space"):
            claims.take(tmp_path)
    assert others.take(tmp_path) == 1


def test_claims_are_touched_while_they_are_held(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "BEAT", 0.005)
    with Claims() as claims:
        claims.take(tmp_path)
        os.utime(tmp_path / "claim.1", (0, 0))
        for _ in range(2000):
            if (tmp_path / "claim.1").stat().st_mtime > 0:
                break
            module.time.sleep(0.005)
    assert (tmp_path / "claim.1").stat().st_mtime > 0


def test_a_process_that_slept_while_its_cell_was_taken_writes_no_result(tmp_path: Path) -> None:
    settings = BenchmarkSettings(data="digits", entries=(Entry("a", "x"),), seeds=1)
    (cell,) = [c for c in settings.cells() if c.epsilon == settings.epsilons[0]]
    place = schedule.place_of(tmp_path, cell)
    place.mkdir(parents=True)
    for last, written in ((1, True), (2, False)):
        (place / f"claim.{last}").write_text(ELSEWHERE)
        (place / "cell.json").unlink(missing_ok=True)
        schedule._work(settings, tmp_path, lambda *_: {}, cell, 1)
        assert (place / "cell.json").exists() == written


CELLS = """
import sys, time
from pathlib import Path

def do(settings, cell, folder):
    with (folder / "calls").open("a") as file:
        file.write(cell.name + "\\n")
    if cell.seed == 1 and not (folder / "tried").exists():
        (folder / "tried").touch()
        raise ValueError("not today")
    while len(list(folder.glob("cells/*/claim.1"))) < 2:  # until both machines work
        time.sleep(0.005)
    return {}

if __name__ == "__main__":
    from dpgen.benchmark.schedule import BenchmarkSettings, Entry, run
    entries = (Entry("a", "x"), Entry("b", "y", teacher_of="a"))
    settings = BenchmarkSettings(data="digits", entries=entries, epsilons=(1.0,), seeds=2)
    run(settings, Path(sys.argv[1]), do, jobs=1, show=False, finished=lambda _: None)
"""


def ran_once(folder: Path) -> None:
    """Every cell was run once, also the one that fails and the one that waits for it."""
    counted = Counter((folder / "calls").read_text().split())
    assert len(counted) == 4 and set(counted.values()) == {1}, counted
    found = [json.loads(path.read_text()) for path in folder.rglob("cell.json")]
    assert Counter(cell["status"] for cell in found) == {"done": 3, "failed": 1}


def test_two_in_one_folder_run_every_cell_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "claimed_cells.py").write_text(CELLS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(schedule, "POLL", 0.01)
    cells, folder = importlib.import_module("claimed_cells"), tmp_path / "benchmark"
    folder.mkdir()
    entries = (Entry("a", "x"), Entry("b", "y", teacher_of="a"))
    settings = BenchmarkSettings(data="digits", entries=entries, epsilons=(1.0,), seeds=2)

    def work(_: int) -> None:
        schedule.run(settings, folder, cells.do, jobs=1, show=False, finished=lambda _: None)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))
    ran_once(folder)
    sys.modules.pop("claimed_cells")


@pytest.mark.slow
def test_two_processes_in_one_folder_run_every_cell_once(tmp_path: Path) -> None:
    (tmp_path / "claimed_cells.py").write_text(CELLS)
    folder = tmp_path / "benchmark"
    folder.mkdir()
    command = [sys.executable, str(tmp_path / "claimed_cells.py"), str(folder)]
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    ran_once(folder)
