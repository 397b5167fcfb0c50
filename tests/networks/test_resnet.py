"""Residual classifiers: sizes, independence of images, and what is refused."""

from __future__ import annotations

import pytest
import torch

from dpgen.evaluation.utility import NETWORKS
from dpgen.networks.resnet import Block, ResNet

WIDTHS = (8, 16, 24)


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 28, 17), (1, 8, 8)])
def test_images_of_any_shape_get_logits_that_do_not_depend_on_the_others(
    shape: tuple[int, int, int],
) -> None:
    torch.manual_seed(0)
    network = ResNet(shape, 5, widths=WIDTHS)
    x = torch.randn(6, *shape)
    assert network(x).shape == (6, 5) and network.features(x).shape == (6, 24)
    torch.testing.assert_close(network(x)[2:3], network(x[2:3]), rtol=0, atol=1e-5)
    assert torch.equal(network.train()(x), network.eval()(x))


def test_the_named_sizes_are_those_of_the_papers() -> None:
    """Convolutions and the head of ResNet-18 for small images, and of WRN-16-4, without norms."""

    def size(network: str) -> int:
        parameters = NETWORKS[network]((3, 32, 32), 10).named_parameters()
        return sum(p.numel() for name, p in parameters if "norm" not in name)

    def by_hand(stem: int, widths: tuple[int, ...]) -> int:
        total, narrow = 27 * stem, stem
        for wide in widths:
            total += 9 * wide * (narrow + 3 * wide) + (narrow * wide if narrow != wide else 0)
            narrow = wide
        return total + (widths[-1] + 1) * 10

    assert size("resnet") == by_hand(64, (64, 128, 256, 512)) == 11_164_362
    assert size("wide-resnet") == by_hand(16, (64, 128, 256)) == 2_745_274


def test_a_stage_halves_the_side_but_the_first_does_not() -> None:
    """An image of 16x16 leaves three stages at 4x4; features are the mean over those."""
    network = ResNet((1, 16, 16), 3, widths=WIDTHS, stem=16)
    seen: list[torch.Tensor] = []
    network.norm.register_forward_hook(lambda _, x, y: seen.append(y))
    x = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    features, logits = network.features(x), network(x)
    assert seen[0].shape == (2, 24, 4, 4)
    silu = seen[0] * torch.sigmoid(seen[0])
    torch.testing.assert_close(features, silu.sum((2, 3)) / 16)
    torch.testing.assert_close(logits, features @ network.head.weight.T + network.head.bias)


def test_a_block_whose_last_convolution_is_zero_is_its_shortcut() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 8, 6, 6, generator=generator)
    same, halving = Block(8, 8, 1), Block(8, 16, 2)
    for block in (same, halving):
        torch.nn.init.zeros_(block.conv2.weight)
    assert torch.equal(same(x), x)
    assert halving.shortcut is not None
    short = halving.shortcut(torch.nn.functional.silu(halving.norm1(x)))
    assert torch.equal(halving(x), short) and short.shape == (2, 16, 3, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": (12,)}, "widths must be positive multiples of 8"),
        ({"widths": ()}, "widths must be positive multiples of 8"),
        ({"n_blocks": 0}, "n_blocks must be at least 1"),
        ({"stem": 12}, "stem must be a positive multiple of 8, got 12"),
        ({"shape": (1, 8)}, r"shape must be \(C, H, W\), all positive"),
        ({"n_classes": 0}, "n_classes must be at least 1"),
        ({"widths": (8,) * 5}, "must be at least 16 for 5 stages, got 8x8"),
    ],
)
def test_numbers_that_make_no_network_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResNet(**({"shape": (1, 8, 8), "n_classes": 3, "widths": WIDTHS} | changes))  # type: ignore[arg-type]


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"x must have shape \(B, 1, 8, 8\), got \(2, 1, 9, 8\)"):
        ResNet((1, 8, 8), 3, widths=WIDTHS)(torch.zeros(2, 1, 9, 8))
