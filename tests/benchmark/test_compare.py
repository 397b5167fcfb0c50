"""The folder of a benchmark: what a killed one left in it is swept, unless another is at work."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dpgen import report
from dpgen.benchmark import compare as benchmarking
from dpgen.benchmark import schedule as benchmark
from dpgen.benchmark.claims import Claims
from dpgen.benchmark.schedule import BenchmarkSettings, Entry

SETTINGS = BenchmarkSettings(
    data="digits", entries=(Entry("a", "dp-sad"),), epsilons=(1.0,), seeds=1, ceiling=False
)


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the cells find in the folder when they begin; the cells do nothing."""
    found: list[str] = []

    def cells(*_: object, **__: object) -> None:
        found.extend(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())

    def described(*_: object) -> dict[str, Any]:
        return {}

    monkeypatch.setattr(benchmark, "run", cells)
    monkeypatch.setattr(benchmarking, "_described", described)
    monkeypatch.setattr(report, "markdown", str)
    monkeypatch.setattr(report, "render", lambda results, _: str(results))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return found


def test_what_killed_writers_left_is_gone_before_the_first_cell(
    left: list[str], tmp_path: Path
) -> None:
    for name in (".results.md.7.partial", "cells/a/.cell.json.7.partial", "features/.f.9.partial"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".mine.partial").touch()
    benchmarking.compare(SETTINGS, tmp_path)
    assert sorted(left) == [".mine.partial", "results.json.lock"]


def test_what_another_benchmark_is_writing_stays(left: list[str], tmp_path: Path) -> None:
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / ".f.9.partial").touch()
    with Claims() as others:
        assert others.take(benchmark.place_of(tmp_path, SETTINGS.cells()[0]))
        benchmarking.compare(SETTINGS, tmp_path)
    assert "features/.f.9.partial" in left
    left.clear()
    benchmarking.compare(SETTINGS, tmp_path)
    assert "features/.f.9.partial" not in left and "results.json" in left


def test_the_metrics_of_real_images_are_measured_by_one_and_waited_for_by_the_others(
    left: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "POLL", 0.001)
    measured: list[str] = []

    def measure(*_: object, **__: object) -> dict[str, float]:
        measured.append(threading.current_thread().name)
        time.sleep(0.05)
        return {"accuracy": 0.5}

    monkeypatch.setattr(benchmarking.cell, "real_data_ceiling", measure)
    with ThreadPoolExecutor(2) as pool:
        given = [pool.submit(benchmarking._references, SETTINGS, tmp_path, None, False)]
        given.append(pool.submit(benchmarking._references, SETTINGS, tmp_path, None, False))
        assert [one.result() for one in given] == [{"real": {"accuracy": 0.5}}] * 2
    assert len(measured) == 1
