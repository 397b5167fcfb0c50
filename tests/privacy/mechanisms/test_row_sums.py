from __future__ import annotations

import math

import pytest
import torch

from dpgen.privacy.mechanisms import row_sums
from dpgen.privacy.mechanisms.row_sums import row_squares, weighted_sum


def rows(n_rows: int = 5, n: int = 70_001) -> torch.Tensor:
    """Float32, of magnitudes whose squares a float32 sum loses or overflows."""
    generator = torch.Generator().manual_seed(0)
    powers = 10.0 ** torch.arange(-20, 20).float()
    return torch.randn(n_rows, n, generator=generator) * powers[torch.arange(n) % 40]


def test_squares_are_exact_to_the_rounding_of_float64() -> None:
    g = rows()
    truth = [math.fsum(x * x for x in row.double().tolist()) for row in g]
    error = row_squares(g).tolist()
    assert error == pytest.approx(truth, rel=70_001 * 2**-53)
    assert row_squares(g[:, :0]).tolist() == [0.0] * 5


@pytest.mark.parametrize("chunk", [1, 1000, 2**20])
def test_the_weighted_sum_is_that_of_float64_rows(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(row_sums.CHUNKS, "cpu", chunk)
    g = rows(n=311)
    weights = torch.tensor([0.3, 1.0, 1e-30, 0.0, 0.7], dtype=torch.float64)
    columns = (weights[:, None] * g.double()).T.tolist()
    truth = torch.tensor([math.fsum(column) for column in columns], dtype=torch.float64)
    scale = (weights[:, None] * g.double().abs()).sum(0)
    assert ((weighted_sum(weights, g) - truth).abs() <= 6 * 2**-53 * scale).all()


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_a_row_of_weight_zero_is_left_out_and_nothing_is_changed_in_place(poison: float) -> None:
    g = rows(n=50)
    g[2, 7] = poison
    before = g.clone()
    weights = torch.tensor([0.3, 1.0, 0.0, 0.2, 0.7], dtype=torch.float64)
    rest = torch.arange(5) != 2
    torch.testing.assert_close(weighted_sum(weights, g), weighted_sum(weights[rest], g[rest]))
    assert not torch.isfinite(row_squares(g))[2]
    assert torch.equal(torch.nan_to_num(g), torch.nan_to_num(before))


def test_rows_that_share_their_memory_are_summed_like_others() -> None:
    """What `vmap` may hand over: one row, expanded."""
    g = rows(1, 40).expand(4, 40)
    weights = torch.tensor([0.5, 0.0, 0.25, 0.25], dtype=torch.float64)
    torch.testing.assert_close(weighted_sum(weights, g), g[0].double(), rtol=1e-15, atol=0)
    double = g.double()
    torch.testing.assert_close(weighted_sum(weights, double), double[0], rtol=1e-15, atol=0)
    assert torch.equal(double[1], g[0].double())
