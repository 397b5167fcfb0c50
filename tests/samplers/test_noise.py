from __future__ import annotations

import pytest
import torch

from samplers import unit_noise
from samplers.noise import uniform


@pytest.mark.parametrize(
    ("dtype", "drawn"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_noise_is_the_generators_own_stream_in_at_least_float32(
    dtype: torch.dtype, drawn: torch.dtype
) -> None:
    noise = unit_noise(torch.zeros(3, 2, dtype=dtype), generator=torch.Generator().manual_seed(5))
    expected = torch.randn(3, 2, generator=torch.Generator().manual_seed(5), dtype=drawn)
    torch.testing.assert_close(noise, expected, rtol=0, atol=0)


def test_two_draws_from_one_generator_differ() -> None:
    generator = torch.Generator().manual_seed(5)
    first, second = (unit_noise(torch.zeros(8), generator=generator) for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("shape", [(20_000,), (20_000, 2, 1)])
def test_uniform_numbers_are_one_an_item_from_the_generators_own_stream(
    shape: tuple[int, ...],
) -> None:
    drawn = uniform(torch.zeros(shape).bfloat16(), generator=torch.Generator().manual_seed(5))
    expected = torch.rand(20_000, generator=torch.Generator().manual_seed(5))
    assert torch.equal(drawn, expected)
    # Five standard errors of a mean, sqrt(1 / 12 / n).
    assert float(drawn.mean()) == pytest.approx(0.5, abs=5 * (1 / 12 / 20_000) ** 0.5)
