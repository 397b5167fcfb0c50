"""Warps and mirror images: every image by itself, all of it from the generator."""

from __future__ import annotations

import pytest
import torch

from dpgen.networks.fixed.warps import mirrored, warp

IMAGES = torch.rand(4, 1, 12, 10, generator=torch.Generator().manual_seed(0)) * 2 - 1


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_strength_zero_returns_the_images_and_draws_nothing() -> None:
    generator = seeded()
    state = generator.get_state()
    assert torch.equal(warp(IMAGES, 0.0, generator), IMAGES)
    assert torch.equal(generator.get_state(), state)


def test_the_generator_decides_everything() -> None:
    assert torch.equal(warp(IMAGES, 1.0, seeded()), warp(IMAGES, 1.0, seeded()))
    assert not torch.allclose(warp(IMAGES, 1.0, seeded(1)), warp(IMAGES, 1.0, seeded()))


def test_an_image_does_not_depend_on_the_others() -> None:
    changed = IMAGES.clone()
    changed[1:] = 0.0
    assert torch.equal(warp(changed, 1.0, seeded())[0], warp(IMAGES, 1.0, seeded())[0])


def test_a_constant_image_stays_as_it_is() -> None:
    """The border goes on outside, so nothing dark comes in."""
    constant = torch.full((3, 2, 9, 9), 0.7)
    torch.testing.assert_close(warp(constant, 1.7, seeded()), constant)


def test_the_mean_of_many_warps_lies_where_the_image_lies() -> None:
    """A disc in the middle: its centre of mass moves by no more than chance, 5 standard errors."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 21), torch.linspace(-1, 1, 21), indexing="ij")
    disc = ((x**2 + y**2) < 0.2).float()[None, None].expand(400, 1, 21, 21)
    moved = warp(disc, 1.0, seeded())
    mass = moved.sum((1, 2, 3))
    for along in (x, y):
        centres = (moved[:, 0] * along).sum((1, 2)) / mass
        assert float(centres.std()) > 0.02
        assert abs(float(centres.mean())) < 5 * float(centres.std()) / 20


def test_a_negative_strength_is_refused() -> None:
    with pytest.raises(ValueError, match="strength must be at least 0, got -1"):
        warp(IMAGES, -1.0, seeded())


def test_half_of_the_images_are_mirrored_and_the_others_as_they_were() -> None:
    images = IMAGES.repeat(100, 1, 1, 1)
    found = mirrored(images, seeded())
    as_they_were = (found == images).flatten(1).all(1)
    assert 150 < int(as_they_were.sum()) < 250
    assert torch.equal(found[~as_they_were], images[~as_they_were].flip(-1))
