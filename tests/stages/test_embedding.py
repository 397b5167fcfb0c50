"""Mean embeddings of the classes: exact without noise, and counts shrunk by the noise they have."""

from __future__ import annotations

import math

import pytest
import torch

from dpgen.networks.fixed.fourier import FourierFeatures
from dpgen.stages.counts import shrunk_counts
from dpgen.stages.embedding import ClassEmbeddings, StackedFeatures, class_embeddings

SHAPE, K = (1, 4, 4), 3
FEATURES = FourierFeatures(16, 10, (0.5,))


def test_without_noise_the_embeddings_are_the_class_means_of_the_features() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(60, *SHAPE, generator=generator, dtype=torch.float64) * 2 - 1
    labels = torch.tensor([0] * 10 + [1] * 20 + [2] * 30)
    statistic = ClassEmbeddings(FEATURES, K)
    block = statistic(pixels, labels)["sums"]
    table = torch.zeros(statistic.tables["sums"], dtype=torch.float64)
    table.index_add_(0, block.rows, block.values)
    means, counts = class_embeddings(table, statistic, 1e-9, 60)
    torch.testing.assert_close(counts, torch.tensor([10.0, 20.0, 30.0]).double())
    truth = torch.stack([FEATURES(pixels[labels == k]).mean(0) for k in range(K)])
    torch.testing.assert_close(means, truth)


def test_stacked_maps_have_norm_one_together_and_get_back_the_means_that_each_has_alone() -> None:
    parts = (FEATURES, FourierFeatures(16, 3, (0.2,)), FourierFeatures(16, 7, (1.0,), seed=1))
    stack = StackedFeatures(parts)
    pixels = torch.rand(9, *SHAPE, generator=torch.Generator().manual_seed(0)).double() * 2 - 1
    found = stack(pixels)
    assert found.shape == (9, stack.n_features) and found.dtype == torch.float64
    torch.testing.assert_close(found.norm(dim=1), torch.ones(9).double())
    means = found.unflatten(0, (K, 3)).mean(1)
    for part, own in zip(parts, stack.parted(means), strict=True):
        torch.testing.assert_close(own, part(pixels).unflatten(0, (K, 3)).mean(1))
    with pytest.raises(ValueError, match="at least one feature map"):
        StackedFeatures(())


def test_counts_that_differ_by_noise_alone_become_nearly_equal() -> None:
    """With pure noise the spread left over is far below the noise's own."""
    generator = torch.Generator().manual_seed(0)
    expected, noise, left = 100.0, 20.0, []
    for _ in range(200):
        noisy = expected + noise * torch.randn(10, generator=generator, dtype=torch.float64)
        left.append((shrunk_counts(noisy, noise, 1000) - expected).square().mean())
    # Positive-part shrinkage of 10 values: the risk of the null is about a tenth of the noise's.
    assert math.sqrt(torch.stack(left).mean()) < 0.5 * noise


def test_no_count_falls_below_a_tenth_of_an_equal_share() -> None:
    counts = shrunk_counts(torch.tensor([-500.0, 300.0, 900.0]).double(), 1.0, 300)
    assert counts[0] == 10.0 and float(counts[2]) == pytest.approx(900.0, rel=0.02)
