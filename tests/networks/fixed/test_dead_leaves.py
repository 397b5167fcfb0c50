"""Procedural pictures: of every shape, in range, from their generator alone, natural enough."""

from __future__ import annotations

import pytest
import torch

from dpgen.networks.fixed.dead_leaves import dead_leaves


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 20, 13), (4, 16, 16), (1, 1, 1)])
def test_pictures_have_their_shape_and_range_and_differ(shape: tuple[int, int, int]) -> None:
    first = dead_leaves(6, shape, torch.Generator().manual_seed(0))
    assert first.shape == (6, *shape)
    assert first.isfinite().all() and first.abs().max() <= 1
    assert first.flatten(1).std(0).min() > 0
    again = dead_leaves(6, shape, torch.Generator().manual_seed(0))
    assert torch.equal(first, again)


def test_channels_of_grey_pictures_are_alike_and_of_colour_ones_nearly() -> None:
    four = dead_leaves(3, (4, 8, 8), torch.Generator().manual_seed(0))
    assert torch.equal(four[:, 0], four[:, 3])
    three = dead_leaves(200, (3, 16, 16), torch.Generator().manual_seed(0))
    between = (three[:, 0] - three[:, 2]).square().mean()
    assert 0 < between < three.square().mean()


def test_the_spectrum_falls_as_that_of_photographs_does() -> None:
    x = dead_leaves(300, (1, 32, 32), torch.Generator().manual_seed(0))[:, 0]
    power = torch.fft.rfft2(x).abs().square().mean(0)
    # Amplitudes of photographs fall as 1 / frequency: power by four an octave.
    slow, fast = power[2:4, 0].mean(), power[8:14, 0].mean()
    assert 4 < slow / fast < 100
