from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dpgen.networks.denoiser import Denoiser, DenoiserConfig
from dpgen.stages.micro_batch import even_size, records_at_once


@pytest.mark.parametrize(("expected", "most"), [(144, 32), (4096, 860), (4096, 4096), (15, 32)])
def test_little_is_computed_in_vain(expected: float, most: int) -> None:
    """Rows of whole micro-batches against records, on Poisson samples."""
    overhead = most / 32
    counts = np.random.default_rng(0).poisson(expected, 4000)

    def cost(size: int) -> float:
        return float((np.ceil(counts / size) * (size + overhead)).mean())

    size = even_size(expected, most, overhead)
    assert 1 <= size <= most
    best = min(map(cost, range(8, most + 1, 8)))
    assert cost(size) <= 1.02 * best
    if expected >= 100:
        assert cost(size) < 1.15 * expected


def test_sizes_fit_where_little_fits() -> None:
    assert [even_size(100, most, 1.0) for most in (1, 5, 8)] == [1, 5, 8]
    assert even_size(0.5, 32, 1.0) == 8


def test_on_a_cpu_the_size_is_a_function_of_the_expected_batch() -> None:
    network = Denoiser(DenoiserConfig.preset("tiny", (1, 8, 8), 3))
    found = [
        records_at_once(network, 8, expected, torch.device("cpu"), half=False)
        for expected in (15.0, 144.0, 4096.0, math.pi)
    ]
    assert found == [8, 16, 32, 8]
