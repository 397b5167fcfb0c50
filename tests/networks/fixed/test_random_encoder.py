"""A random encoder is a public function of one image, of norm one, and tells images apart."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dpgen.networks.fixed.random_encoder import RandomEncoder

SHAPE = (1, 12, 10)
ENCODER = RandomEncoder(SHAPE, 40, (0.2, 0.8), width=4)


def images(n: int = 5, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    return 2 * torch.rand(n, *shape, generator=torch.Generator().manual_seed(0)) - 1


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 8, 8), (3, 28, 17), (1, 50, 64)])
def test_every_image_gets_features_of_norm_one(shape: tuple[int, int, int]) -> None:
    encoder = RandomEncoder(shape, 6, (0.4,), width=4)
    flat = torch.stack([torch.full(shape, value) for value in (-1.0, 0.0, 1.0)])
    found = encoder(torch.cat([images(4, shape), flat]))
    assert found.shape == (7, encoder.n_features) and found.dtype == torch.float32
    torch.testing.assert_close(found.norm(dim=1), torch.ones(7), rtol=0, atol=1e-5)


def test_an_images_features_do_not_depend_on_the_others() -> None:
    x = images()
    changed = x.clone()
    changed[1:] = torch.nan
    assert torch.equal(ENCODER(changed)[0], ENCODER(x)[0])
    torch.testing.assert_close(ENCODER(x[2:3])[0], ENCODER(x)[2], rtol=0, atol=1e-5)


def test_the_seed_decides_weights_and_frequencies_and_nothing_else_does() -> None:
    x = images()
    torch.manual_seed(1)
    again = RandomEncoder(SHAPE, 40, (0.2, 0.8), width=4)
    assert torch.equal(again(x), ENCODER(x))
    other = RandomEncoder(SHAPE, 40, (0.2, 0.8), width=4, seed=1)
    assert not torch.allclose(other(x), ENCODER(x), atol=0.1)


def test_images_that_are_alike_are_nearer_than_others_and_gradients_reach_the_pixels() -> None:
    x = images(2)
    near = (x[:1] + 0.05 * images(3)[2:]).requires_grad_()
    phi, (one, other) = ENCODER(near)[0], ENCODER(x)
    assert float((phi @ (one - other)).detach()) > 0.05
    (phi @ other).backward()
    assert near.grad is not None and float(near.grad.abs().min()) > 0


@pytest.mark.parametrize("numbers", [{"n_frequencies": 0}, {"width": 0}, {"bandwidths": (0.0,)}])
def test_numbers_that_make_no_encoder_are_refused(numbers: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(numbers))} must be"):
        RandomEncoder(**({"shape": SHAPE, "n_frequencies": 4, "bandwidths": (1.0,)} | numbers))  # type: ignore[arg-type]
