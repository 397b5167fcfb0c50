"""Blocks: which image is drawn from which seed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dpgen.generator.drawing import BLOCK, Drawing, block_size, draw_blocks
from dpgen.images.images import Images
from dpgen.networks.denoiser import Denoiser, DenoiserConfig
from samplers import make_sampler

SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def network() -> Denoiser:
    torch.manual_seed(0)
    network = Denoiser(DenoiserConfig.preset("tiny", SHAPE, 3)).requires_grad_(False)
    for weight in network.parameters():  # some begin at zero: every one shall count
        weight += 0.1 * torch.randn(weight.shape)
    return network


def drawn(network: Denoiser, labels: Tensor, name: str) -> Images:
    sampler = make_sampler(name, n_steps=2, sigma_min=0.1, sigma_max=3.0)
    return Images.joined(draw_blocks(Drawing(network, sampler), labels, seed=4))


@pytest.mark.parametrize("name", ["ddpm", "langevin", "underdamped", "hamiltonian", "edm"])
def test_how_many_are_asked_for_changes_no_image_of_a_stochastic_sampler(
    network: Denoiser, name: str
) -> None:
    few = drawn(network, torch.arange(7) % 3, name)
    more = drawn(network, torch.arange(BLOCK + 5) % 3, name)
    assert torch.equal(few.pixels, more.pixels[:7])
    assert torch.equal(few.labels, more.labels[:7])


def test_labels_of_ones_own_change_no_other_image(network: Denoiser) -> None:
    labels = torch.arange(20) % 3
    other = labels.clone()
    other[3] = (other[3] + 1) % 3
    one, two = (drawn(network, rows, "hamiltonian").pixels for rows in (labels, other))
    same = torch.arange(20) != 3
    assert torch.equal(one[same], two[same])
    assert not torch.allclose(one[3], two[3], atol=1e-3)


def test_in_bfloat16_the_network_alone_computes_in_it(network: Denoiser) -> None:
    sampler, labels = make_sampler("ddim", n_steps=2, sigma_min=0.1, sigma_max=3.0), torch.arange(5)
    labels = labels % 3
    half = Images.joined(draw_blocks(Drawing(network, sampler, half=True), labels, seed=4)).pixels
    rest = Images.joined(draw_blocks(Drawing(network, sampler), labels, seed=4)).pixels
    # By hand: only the scores are of another precision, not the noise and not the sampler.
    whole = torch.arange(BLOCK) % 3
    noise = torch.randn(BLOCK, *SHAPE, generator=torch.Generator().manual_seed(4))
    score_fn, types = network.score_fn(whole), set[torch.dtype]()

    def by_hand(x: Tensor, sigma: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            found = score_fn(x, sigma).float()
        types.update((x.dtype, found.dtype))
        return found

    with torch.no_grad():
        expected = sampler(by_hand, noise, generator=torch.Generator())[:5].clamp(-1, 1)
    assert torch.equal(half, expected) and types == {torch.float32}
    assert 1e-5 < float((half - rest).abs().max()) and float((half - rest).abs().mean()) < 0.05


@pytest.fixture
def small_blocks() -> None:
    """Blocks here are as large as those of users."""


@pytest.mark.parametrize(
    ("shape", "size"),
    [((1, 8, 8), 256), ((3, 64, 64), 256), ((3, 256, 256), 16), ((1, 1024, 1024), 4)],
)
def test_large_images_are_drawn_fewer_at_a_time(shape: tuple[int, int, int], size: int) -> None:
    assert block_size(shape) == size
