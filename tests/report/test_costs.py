from __future__ import annotations

import re
from typing import Any

import pytest

from dpgen.report.costs import costs, duration, spent
from dpgen.report.results import Results

Values = dict[str, Any]


def test_bars_are_mean_times_in_one_proportion(results: Values) -> None:
    for cell in results["cells"]:
        slow = cell["label"] == "dp-sad"
        cell["seconds"] = {"train": (90.0 if slow else 10.0) + cell["seed"], "sample": 9.0}
    text = costs(Results.read(results))
    widths = [float(w) for w in re.findall(r"width:([\d.]+)%", text)]
    assert widths == [91.0, 9.0, *[11.0, 9.0] * 3]
    assert "train 91 s" in text and "sample 9.0 s" in text and "902 MiB" in text


def test_only_finished_cells_count(results: Values) -> None:
    for cell in results["cells"]:
        if cell["label"] == "dpdm":
            cell.update(status="failed", error="no memory")
    assert "dpdm" not in costs(Results.read(results))
    assert spent(Results.read(results), "dpdm", 1.0) == "–"


def test_who_draws_from_anothers_release_says_that_it_costs_nothing(results: Values) -> None:
    text = costs(Results.read(results))
    assert text.count("draws from the release of dp-sad") == 1


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (10.0, "10 s"), (119.4, "119 s"), (120, "2.0 min"),
     (7199, "120.0 min"), (7200, "2.0 h")],
)  # fmt: skip
def test_durations_have_the_largest_unit_that_leaves_two(seconds: float, words: str) -> None:
    assert duration(seconds) == words
