"""Cosines of colours: a rotation of pixels, whole or in part."""

from __future__ import annotations

import math

import pytest
import torch

from dpgen.networks.fixed.colour_cosines import ColourCosines


@pytest.mark.parametrize("shape", [(3, 8, 6), (1, 5, 7), (2, 4, 4)])
def test_all_bands_are_a_rotation_and_few_a_projection(shape: tuple[int, int, int]) -> None:
    x = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    every = ColourCosines(shape, shape[1] + shape[2])
    torch.testing.assert_close(every.synthesise(every.analyse(x)), x)
    few = ColourCosines(shape, 3)
    c = few.analyse(x)
    assert c.shape == (5, few.n_coefficients) and few.n_coefficients < math.prod(shape)
    torch.testing.assert_close(few.analyse(few.synthesise(c)), c)
    assert (c.norm(dim=1) < x.flatten(1).norm(dim=1)).all()


def test_grey_pictures_have_no_colour() -> None:
    grey = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)).expand(4, 3, 8, 8)
    colours = ColourCosines((3, 8, 8), 5).analyse(grey).unflatten(1, (-1, 3))
    assert colours[..., 1:].abs().max() < 1e-6 < colours[..., 0].abs().min()


def test_no_image_is_longer_than_the_radius() -> None:
    basis = ColourCosines((3, 8, 8), 5)
    white = basis.analyse(torch.ones(1, 3, 8, 8))
    assert float(white.norm()) == pytest.approx(basis.radius)


def test_typical_variances_fall_with_frequency_and_are_those_of_grey_pictures_mostly() -> None:
    typical = ColourCosines((3, 8, 8), 5).typical.unflatten(0, (-1, 3))
    assert float(typical.sum()) == pytest.approx(1)
    assert (typical[:, 0] > 5 * typical[:, 1]).all()
    assert (typical[1:] <= typical[:-1]).all() and typical[-1, 0] < typical[0, 0] / 8
