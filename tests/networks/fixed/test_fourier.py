"""Random Fourier features are a unit map whose inner products are Gaussian kernels."""

from __future__ import annotations

import math

import pytest
import torch

from dpgen.networks.fixed.fourier import FourierFeatures

D = 12


def vectors(n: int, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(n, D, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_every_vector_has_norm_one(scale: float) -> None:
    phi = FourierFeatures(D, 7, (0.3, 1.0))(vectors(5, scale))
    assert phi.shape == (5, 14)
    torch.testing.assert_close(phi.norm(dim=1), torch.ones(5).double(), rtol=1e-12, atol=0)


def test_inner_products_are_the_mean_of_gaussian_kernels() -> None:
    """Each is a mean of m cosines of variance at most 1/2: five standard errors."""
    m, bandwidths = 20_000, (0.4, 1.5)
    x = vectors(6)
    phi = FourierFeatures(D, m, bandwidths)(x)
    squares = torch.cdist(x, x).square()
    kernel = sum(torch.exp(-squares / (2 * b**2 * D)) for b in bandwidths) / len(bandwidths)
    assert float((phi @ phi.T - kernel).abs().max()) < 5 * math.sqrt(0.5 / m)


def test_images_are_taken_flat_and_in_their_own_precision() -> None:
    features = FourierFeatures(D, 5, (1.0,))
    x = vectors(3)
    flat = features(x)
    assert torch.equal(features(x.reshape(3, 3, 2, 2)), flat)
    assert features(x.float()).dtype == torch.float32
    torch.testing.assert_close(features(x.float()).double(), flat, rtol=0, atol=1e-5)


def test_angles_are_not_rounded_where_networks_compute_in_half_precision() -> None:
    features = FourierFeatures(64, 30, (0.2,), seed=3)
    x = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        found = features(x)
        halved = features(x.bfloat16())
    assert torch.equal(found, features(x))
    assert torch.equal(halved, features(x.bfloat16().float()))


def test_the_seed_decides_the_frequencies() -> None:
    x = vectors(2)
    first = FourierFeatures(D, 5, (1.0,), seed=1)
    assert torch.equal(first(x), FourierFeatures(D, 5, (1.0,), seed=1)(x))
    assert not torch.allclose(first(x), FourierFeatures(D, 5, (1.0,), seed=2)(x))


@pytest.mark.parametrize("bandwidths", [(), (0.0,), (1.0, -1.0), (math.inf,)])
def test_bandwidths_that_are_none_are_refused(bandwidths: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="bandwidths must be positive numbers"):
        FourierFeatures(D, 5, bandwidths)
