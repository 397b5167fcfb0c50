"""The profile of a micro-batch, at a small size on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from speed_runs import operators
from speed_runs.bench import Bench


def test_a_profile_lists_what_a_micro_batch_calls_by_its_share_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(operators, "CASES", {"cpu": ("tiny", 8, 4)})
    monkeypatch.setattr(operators, "DRAWS", (2,))
    monkeypatch.setattr(operators, "N_WARM", 1)
    bench = Bench(torch.device("cpu"), 1)
    operators.operators(bench)
    heads = [row for row in bench.rows if "kinds" in row]
    assert [(row["draws"], row["step"], row["images"]) for row in heads] == [
        (2, "plain", 4), (2, "private", 4),
    ]  # fmt: skip
    plain, private = (
        [row for row in bench.rows if row["step"] == who and "operator" in row]
        for who in ("plain", "private")
    )
    for rows in (plain, private):
        shares = [row["share"] for row in rows]
        assert len(rows) == operators.SHOWN and shares == sorted(shares, reverse=True)
        assert 0.5 < sum(shares) <= 1
        assert any("convolution" in row["operator"] for row in rows)
    # Only the private step makes a gradient of every record: two records, so twice the calls.
    calls: Callable[[list[dict[str, object]]], object] = lambda rows: next(  # noqa: E731
        row["calls"] for row in rows if "convolution_backward" in str(row["operator"])
    )
    assert calls(private) > calls(plain)  # type: ignore[operator]
