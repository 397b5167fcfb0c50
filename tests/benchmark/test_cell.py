"""A cell of a benchmark measures as `dpgen evaluate` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dpgen.benchmark import cell
from dpgen.benchmark.schedule import BenchmarkSettings, Entry
from dpgen.data.sources import read_images
from dpgen.evaluation.evaluation import Protocol

SETTINGS = BenchmarkSettings(
    data="digits", entries=(Entry("a", "dp-sad"),), epsilons=(1.0,), seeds=1, networks=("cnn",)
)


def test_the_recipe_of_a_cell_and_of_the_ceiling_follows_from_the_number_of_records(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Protocol] = []

    class Measured(dict[str, Any]):
        metrics: dict[str, Any] = {}  # noqa: RUF012 - empty

    def measured(_: Any, __: Any, protocol: Protocol, **___: Any) -> dict[str, Measured]:  # noqa: ANN401
        asked.append(protocol)
        return {"": Measured()}

    monkeypatch.setattr(cell, "evaluate", measured)
    monkeypatch.setattr(cell, "feature_network", lambda *_, **__: None)
    data, images = cell.open_records(SETTINGS), read_images("digits", split="test")
    cell.measure(SETTINGS, tmp_path, images, data, seed=3, networks=("cnn",))
    cell.real_data_ceiling(SETTINGS, tmp_path, data)
    assert [protocol.n_records for protocol in asked] == [1437] * 3
