"""The estimate of the squared maximum mean discrepancy is unbiased, and fitting drives it down."""

from __future__ import annotations

import itertools

import pytest
import torch

from dpgen.networks.decoder import Decoder, DecoderConfig
from dpgen.training.matching import match, unbiased_mmd


def test_the_estimate_is_the_double_sum_without_its_diagonal() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 5, 4, generator=generator, dtype=torch.float64)
    means = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    total = 0.0
    for f, mean in zip(features, means, strict=True):
        pairs = sum(f[i] @ f[j] for i in range(5) for j in range(5) if i != j)
        total += float(pairs / 20 - 2 * f.mean(0) @ mean) / 3
    assert float(unbiased_mmd(features, means)) == pytest.approx(total, rel=1e-12)


def test_its_mean_over_all_samples_is_the_squared_distance_of_the_means() -> None:
    """All 3^3 samples of size 3 from a uniform law on three points."""
    points = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    target = torch.tensor([0.3, -0.2, 0.5, 1.0], dtype=torch.float64)
    estimates = [
        float(unbiased_mmd(points[list(rows)][None], target[None]))
        for rows in itertools.product(range(3), repeat=3)
    ]
    expected = float((points.mean(0) - target).square().sum() - target.square().sum())
    assert sum(estimates) / len(estimates) == pytest.approx(expected, rel=1e-12)


def test_one_image_a_class_has_no_pairs() -> None:
    with pytest.raises(ValueError, match="at least 2 images a class, got 1"):
        unbiased_mmd(torch.zeros(2, 1, 3), torch.zeros(2, 3))


@pytest.mark.parametrize("half", [False, True])
def test_a_matched_decoder_has_the_means_it_was_given(half: bool) -> None:
    """Pixels themselves as features: class means of 0.5 and -0.5 are reached to a few per cent."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        decoder = Decoder(DecoderConfig((1, 8, 8), 2, width=32))
    means = torch.stack([torch.full((64,), 0.5), torch.full((64,), -0.5)])
    match(
        decoder,
        [(lambda x: x.flatten(1), means)],
        n_steps=150,
        n_per_class=16,
        learning_rate=5e-3,
        generator=torch.Generator().manual_seed(0),
        half=half,
        show=False,
        title="",
    )
    labels = torch.arange(400) % 2
    pixels = decoder.draw(labels, torch.Generator().manual_seed(1)).flatten(1)
    for k in range(2):
        assert float((pixels[labels == k].mean(0) - means[k]).abs().mean()) < 0.05
