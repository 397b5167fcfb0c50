"""Gabor-modulus features: of norm one, each image by itself, slow to change under small shifts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dpgen.networks.fixed.gabor import GROUPS, GaborFeatures, gabor_pairs, modulus, unit

SHAPE = (2, 12, 10)
FEATURES = GaborFeatures(SHAPE, grid=3)


def images(n: int = 5, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    return 2 * torch.rand(n, *shape, generator=torch.Generator().manual_seed(0)) - 1


@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 8, 8), (3, 28, 17), (1, 50, 64)])
def test_every_image_gets_the_declared_number_of_features_of_norm_one(
    shape: tuple[int, int, int],
) -> None:
    features = GaborFeatures(shape)
    found = features(images(4, shape))
    assert found.shape == (4, features.n_features) and found.dtype == torch.float32
    torch.testing.assert_close(found.norm(dim=1), torch.ones(4), rtol=0, atol=3e-6)


def test_the_groups_have_the_weights_that_they_were_given() -> None:
    """Pixels, two scales and the second order: shares of the norm as in GROUPS."""
    found = FEATURES(images())
    counts = [channels * 9 for channels in (2, 8, 8, 32)]
    norms = torch.stack([part.norm(dim=1) for part in found.split(counts, 1)], 1)
    shares = torch.tensor(GROUPS) / math.sqrt(sum(weight**2 for weight in GROUPS))
    torch.testing.assert_close(norms, shares.expand(5, 4), rtol=0, atol=1e-5)


def test_an_images_features_do_not_depend_on_the_others() -> None:
    x = images()
    changed = x.clone()
    changed[1:] = torch.nan
    assert torch.equal(FEATURES(changed)[0], FEATURES(x)[0])
    torch.testing.assert_close(FEATURES(x[2:3])[0], FEATURES(x)[2], rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e30])
def test_an_image_with_a_pixel_that_is_no_number_gets_zero_and_no_error(value: float) -> None:
    x = images()
    x[1, 0, 3, 4] = value
    found = FEATURES(x)
    assert torch.isfinite(found).all()
    assert found[1].norm() == 0 and (found[[0, 2, 3, 4]].norm(dim=1) > 0.999).all()


def test_a_constant_or_black_image_is_no_special_case() -> None:
    flat = torch.stack([torch.full(SHAPE, v) for v in (-1.0, 0.3, 1.0)])
    found = FEATURES(flat)
    assert torch.isfinite(found).all() and (found.norm(dim=1) <= 1 + 1e-6).all()


def test_unit_rows_have_norm_one_or_are_zero() -> None:
    found = unit(torch.tensor([[3.0, 4.0], [0.0, 0.0], [torch.nan, 1.0], [torch.inf, 0.0]]))
    expected = torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(found, expected)


def test_filters_ignore_brightness_and_each_pair_has_norm_one() -> None:
    filters = gabor_pairs(7, width=1.3, frequency=1.4, n_orientations=8)
    assert filters.shape == (16, 1, 7, 7)
    torch.testing.assert_close(filters.sum((1, 2, 3)), torch.zeros(16), rtol=0, atol=1e-5)
    squares = filters.square().sum((1, 2, 3)).reshape(8, 2).sum(1)
    torch.testing.assert_close(squares, torch.ones(8))


def test_the_modulus_is_the_length_of_the_two_responses_one_colour_at_a_time() -> None:
    filters = gabor_pairs(5, width=1.0, frequency=1.2, n_orientations=3)
    x = images(2)
    found = modulus(x, filters)
    assert found.shape == (2, 2, 3, 12, 10)
    for colour in range(2):
        responses = functional.conv2d(x[:, colour : colour + 1], filters, padding=2)
        even, odd = responses[:, 0::2], responses[:, 1::2]
        length = (even.square() + odd.square() + 1e-8).sqrt()
        torch.testing.assert_close(found[:, colour], length, rtol=1e-4, atol=1e-5)


def test_stripes_answer_loudest_to_the_filter_across_them() -> None:
    frequency = 0.45 * math.pi
    filters = gabor_pairs(7, width=1.3, frequency=frequency, n_orientations=8)
    wave = torch.cos(frequency * torch.arange(24.0))
    upright, lying = wave.expand(24, 24), wave[:, None].expand(24, 24)
    found = modulus(torch.stack([upright, lying])[:, None], filters)[:, 0, :, 4:-4, 4:-4]
    assert found.mean((2, 3)).argmax(1).tolist() == [0, 4]


def test_a_shift_by_one_pixel_moves_the_features_less_than_the_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(20, 1, 7, 7, generator=generator)
    x = -torch.ones(20, 1, 28, 28)
    x[..., 7:21, 7:21] = functional.interpolate(small, size=14, mode="nearest") * 2 - 1
    features = GaborFeatures((1, 28, 28))
    moved = (features(x.roll(1, 3)) - features(x)).norm(dim=1)
    pixels = unit((x + 1).flatten(1))
    of_pixels = (unit((x.roll(1, 3) + 1).flatten(1)) - pixels).norm(dim=1)
    assert float(moved.mean()) < 0.5 * float(of_pixels.mean())


def test_the_filters_are_fixed_and_the_settings_say_which() -> None:
    again = GaborFeatures(SHAPE, grid=3)
    assert torch.equal(again(images()), FEATURES(images()))
    assert GaborFeatures(SHAPE, grid=4).settings != FEATURES.settings
    assert GaborFeatures(SHAPE, grid=3, largest_side=8).settings != FEATURES.settings


@pytest.mark.parametrize("name", ["grid", "largest_side"])
def test_numbers_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        GaborFeatures(SHAPE, **{name: 0})


@pytest.mark.parametrize("shape", [(1, 8, 1), (1, 1, 3)])
def test_sides_of_one_pixel_have_no_edges_and_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="at least 2x2"):
        GaborFeatures(shape)
