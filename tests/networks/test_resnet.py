"""Residual classifiers: sizes, independence of images, and what is refused."""

from __future__ import annotations

import pytest
import torch

from dpgen.networks.resnet import ResNet

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

    def size(widths: tuple[int, ...]) -> int:
        parameters = ResNet((3, 32, 32), 10, widths=widths).named_parameters()
        return sum(p.numel() for name, p in parameters if "norm" not in name)

    def by_hand(widths: tuple[int, ...]) -> int:
        total, narrow = 27 * widths[0], widths[0]
        for stage, wide in enumerate(widths):
            total += 9 * wide * (narrow + 3 * wide) + (narrow * wide if stage else 0)
            narrow = wide
        return total + (widths[-1] + 1) * 10

    assert size((64, 128, 256, 512)) == by_hand((64, 128, 256, 512)) == 11_164_362
    assert size((64, 128, 256)) == by_hand((64, 128, 256))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": (12,)}, "widths must be positive multiples of 8"),
        ({"widths": ()}, "widths must be positive multiples of 8"),
        ({"n_blocks": 0}, "n_blocks must be at least 1"),
        ({"widths": (8,) * 5}, "must be at least 16 for 5 stages, got 8x8"),
    ],
)
def test_numbers_that_make_no_network_are_refused(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ResNet((1, 8, 8), 3, **({"widths": WIDTHS} | changes))  # type: ignore[arg-type]
