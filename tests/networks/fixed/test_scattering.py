"""Scattering: each image by itself, blind to sides and small shifts, in tune with orientations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dpgen.networks.fixed.dead_leaves import dead_leaves
from dpgen.networks.fixed.scattering import Frame, ScatteringFeatures, morlets

COLOUR = (3, 32, 32)


def pictures(shape: tuple[int, int, int] = COLOUR, n: int = 4) -> Tensor:
    return dead_leaves(n, shape, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("shape", "n"),
    [((3, 32, 32), 4192), ((3, 64, 48), 4192), ((3, 8, 8), 262), ((1, 28, 28), 2016)],
)
def test_there_are_as_many_as_it_says_whatever_the_size(
    shape: tuple[int, int, int], n: int
) -> None:
    features = ScatteringFeatures(shape)
    found = features(pictures(shape, 2))
    assert found.shape == (2, features.n_features)
    assert torch.isfinite(found).all()
    assert features.n_features == n


@pytest.mark.parametrize("shape", [(3, 7, 6), (3, 9, 11), (1, 6, 33)])
def test_odd_sides_are_no_exception(shape: tuple[int, int, int]) -> None:
    features = ScatteringFeatures(shape)
    assert features(pictures(shape, 2)).shape == (2, features.n_features)


def test_each_image_counts_by_itself() -> None:
    features, x = ScatteringFeatures(COLOUR), pictures().double()
    together = features(x)
    for k in range(len(x)):
        torch.testing.assert_close(features(x[k : k + 1])[0], together[k], rtol=1e-12, atol=1e-12)


def test_an_image_and_its_mirror_image_have_nearly_the_same_features() -> None:
    features, x = ScatteringFeatures(COLOUR), pictures()
    one, other, up = features(x), features(x.flip(3)), features(x.flip(2))
    assert (one - other).norm() < 0.02 * one.norm()
    assert (one - up).norm() > 0.1 * one.norm()


@pytest.mark.parametrize("k", range(8))
def test_stripes_answer_in_their_own_orientation(k: int) -> None:
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    angle = math.pi * k / 8
    stripes = torch.cos(0.75 * math.pi * (x * math.cos(angle) + y * math.sin(angle)))
    maps = Frame(32, 32).scatter(stripes[None, None], 8)[0, 0]
    first = maps[1:9].mean((1, 2))  # of the fine scale
    assert int(first.argmax()) == k


def test_wavelets_have_no_mean_and_answer_to_a_constant_with_nothing() -> None:
    for scale in (1, 2):
        assert float(morlets((40, 40), scale, 8)[:, 0, 0].abs().max()) < 1e-12
    flat = Frame(32, 32).scatter(torch.full((1, 1, 32, 32), 0.5), 4)[0, 0]
    torch.testing.assert_close(flat[0], torch.full((8, 8), 0.5))
    torch.testing.assert_close(flat[1:], torch.full((24, 8, 8), 0.01), atol=1e-4, rtol=0)


def test_images_that_are_too_small_are_refused_with_a_cure() -> None:
    with pytest.raises(ValueError, match="at least 6x6, got 5x9: leave the classifier out"):
        ScatteringFeatures((3, 5, 9))
