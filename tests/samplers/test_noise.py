from __future__ import annotations

import pytest
import torch

from samplers import unit_noise


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
