"""The folder of a benchmark: one works in it at a time, and sweeps what a killed one left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dpgen import report
from dpgen.benchmark import compare as benchmarking
from dpgen.benchmark import schedule as benchmark
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


def test_a_second_benchmark_in_one_folder_is_refused(left: list[str], tmp_path: Path) -> None:
    with benchmarking.held_alone(tmp_path / "results.json"):
        with pytest.raises(ValueError, match="in use by another benchmark: wait"):
            benchmarking.compare(SETTINGS, tmp_path)
    assert not left
    benchmarking.compare(SETTINGS, tmp_path)
    assert left
