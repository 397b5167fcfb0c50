"""The decoder: its numbers, its sizes, and draws that a generator decides."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import torch

from dpgen.networks.decoder import Decoder, DecoderConfig
from dpgen.settings import from_dict

CONFIG = DecoderConfig((1, 8, 8), 3, n_latents=5, width=16, channels=(8, 4))


def decoder() -> Decoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Decoder(CONFIG)


def test_its_numbers_survive_json() -> None:
    assert from_dict(DecoderConfig, json.loads(json.dumps(dataclasses.asdict(CONFIG)))) == CONFIG


@pytest.mark.parametrize(
    ("sides", "doublings"), [((4, 4), 1), ((8, 8), 1), ((17, 9), 2), ((28, 28), 2), ((33, 64), 3)]
)
def test_convolutions_begin_at_eight_pixels_or_fewer(
    sides: tuple[int, int], doublings: int
) -> None:
    config = DecoderConfig((1, *sides), 1)
    assert config.n_doublings == doublings
    assert max(sides) / 2**doublings <= 8


def test_an_image_does_not_depend_on_the_others_of_its_batch() -> None:
    made, generator = decoder(), torch.Generator().manual_seed(0)
    z, labels = torch.randn(4, 5, generator=generator), torch.tensor([0, 1, 2, 0])
    changed, others = z.clone(), torch.tensor([0, 2, 0, 1])
    changed[1:] = torch.nan
    assert torch.equal(made(changed, others)[0], made(z, labels)[0])


def test_draws_are_the_images_of_the_generators_normals_in_the_order_of_the_labels() -> None:
    made, labels = decoder(), torch.arange(1100) % 3
    drawn = made.draw(labels, torch.Generator().manual_seed(4))
    z = torch.randn(1100, 5, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(drawn, made(z, labels).detach(), rtol=1e-4, atol=1e-5)
    assert not drawn.requires_grad


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"n_classes": 0}, "n_classes must be at least 1, got 0"),
        ({"n_latents": 0}, "n_latents must be at least 1, got 0"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"channels": ()}, "channels must be multiples of 4"),
        ({"channels": (8, 6)}, "channels must be multiples of 4"),
        ({"shape": (8, 8)}, r"shape must be \(C, H, W\)"),
        ({"shape": (1, 0, 8)}, r"shape must be \(C, H, W\)"),
    ],
)
def test_numbers_that_cannot_be_are_refused(numbers: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DecoderConfig(**{"shape": (1, 8, 8), "n_classes": 2, **numbers})
