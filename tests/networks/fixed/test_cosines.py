"""The cosine basis: orthonormal, the DCT-II of scipy, slow frequencies first."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from torch import Tensor

from dpgen.networks.fixed.cosines import Cosines

SHAPES = [((1, 8, 8), 4), ((3, 5, 7), 6), ((1, 4, 6), 9), ((2, 3, 3), 100), ((1, 1, 1), 1)]


def images(shape: tuple[int, int, int], n: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, int(np.prod(shape)), generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("shape", "bands"), SHAPES)
def test_the_basis_is_orthonormal(shape: tuple[int, int, int], bands: int) -> None:
    cosines = Cosines(shape, bands)
    basis = cosines.synthesise(torch.eye(cosines.n_coefficients, dtype=torch.float64))
    gram = basis @ basis.T
    torch.testing.assert_close(gram, torch.eye(len(gram), dtype=torch.float64))
    # analyse is the transpose of synthesise, so its inverse on the span.
    x = images(shape)
    torch.testing.assert_close(cosines.analyse(x), x @ basis.T)


@pytest.mark.parametrize(("shape", "bands"), SHAPES)
def test_coefficients_are_those_of_scipy(shape: tuple[int, int, int], bands: int) -> None:
    x = images(shape)
    spectrum = dctn(x.reshape(-1, *shape).numpy(), axes=(-2, -1), norm="ortho")
    _, height, width = shape
    kept = [(u, v) for u in range(height) for v in range(width) if u + v < bands]
    found = Cosines(shape, bands).analyse(x)
    assert found.shape == (4, shape[0] * len(kept))
    # Whatever their order, channel by channel they are the same numbers.
    by_channel = found.unflatten(-1, (-1, shape[0])).mT
    expected = np.stack([spectrum[..., u, v] for u, v in kept], -1)
    np.testing.assert_allclose(np.sort(by_channel.numpy(), -1), np.sort(expected, -1), atol=1e-12)
    # Slow ones first: the first is the mean, times the root of the number of pixels.
    mean = x.reshape(-1, shape[0], height * width).mean(-1) * (height * width) ** 0.5
    torch.testing.assert_close(by_channel[..., 0], mean)


def test_frequencies_rise() -> None:
    cosines = Cosines((1, 6, 6), 5)
    speed = []
    for row in torch.eye(cosines.n_coefficients, dtype=torch.float64):
        spectrum = dctn(cosines.synthesise(row).reshape(6, 6).numpy(), norm="ortho")
        u, v = np.unravel_index(np.abs(spectrum).argmax(), spectrum.shape)
        speed.append(int(u) ** 2 + int(v) ** 2)
        assert u + v < 5
    assert speed == sorted(speed) and len(speed) == 15


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 7)])
def test_all_bands_keep_every_image_and_its_length(shape: tuple[int, int, int]) -> None:
    cosines, x = Cosines(shape, shape[1] + shape[2] - 1), images(shape)
    assert cosines.n_coefficients == x.shape[1]
    torch.testing.assert_close(cosines.analyse(x).norm(dim=1), x.norm(dim=1))  # Parseval
    torch.testing.assert_close(cosines.synthesise(cosines.analyse(x)), x)


def test_fewer_bands_never_lengthen_and_projecting_twice_is_projecting_once() -> None:
    cosines, x = Cosines((1, 8, 8), 4), images((1, 8, 8))
    assert (cosines.analyse(x).norm(dim=1) < x.norm(dim=1)).all()
    once = cosines.synthesise(cosines.analyse(x))
    torch.testing.assert_close(cosines.synthesise(cosines.analyse(once)), once)
    flat = torch.full((1, 64), 0.7, dtype=torch.float64)
    torch.testing.assert_close(cosines.synthesise(cosines.analyse(flat)), flat)


def test_there_is_at_least_one_band() -> None:
    with pytest.raises(ValueError, match="bands must be at least 1, got 0"):
        Cosines((1, 8, 8), 0)
