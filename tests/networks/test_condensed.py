"""A condensed set draws its images in turn, and changes those that come again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from dpgen.networks.condensed import Condensed, CondensedConfig, turns_of
from dpgen.runs.released import load_network
from dpgen.settings import plain

CONFIG = CondensedConfig((1, 6, 5), 3, images_per_class=2)
LABELS = torch.tensor([2, 2, 0, 2, 2, 1, 0, 0])


def condensed(config: CondensedConfig = CONFIG) -> Condensed:
    made = Condensed(config).requires_grad_(False)
    made.weights.copy_(torch.randn(made.weights.shape, generator=torch.Generator().manual_seed(0)))
    return made


def drawn(made: Condensed, seed: int = 1) -> Tensor:
    return made.draw(LABELS, torch.Generator().manual_seed(seed))


def test_images_of_a_class_come_in_their_order_and_then_again() -> None:
    made = condensed()
    images, held = drawn(made), made()
    assert held.shape == (3, 2, 1, 6, 5) and float(held.abs().max()) < 1
    places = [(2, 0), (2, 1), (0, 0), (2, 0), (2, 1), (1, 0), (0, 1), (0, 0)]
    assert all(torch.equal(x, held[place]) for x, place in zip(images, places, strict=True))


def test_only_images_that_come_again_are_changed_each_in_a_way_of_its_own() -> None:
    plain_one, changing = (
        drawn(condensed(dataclasses.replace(CONFIG, warp=warp))) for warp in (0.0, 1.0)
    )
    again = torch.tensor([False, False, False, True, True, False, False, True])
    assert torch.equal(plain_one[~again], changing[~again])
    assert (plain_one[again] != changing[again]).flatten(1).any(1).all()
    other = drawn(condensed(dataclasses.replace(CONFIG, warp=1.0)), seed=2)
    assert torch.equal(other[~again], changing[~again])
    assert not torch.equal(other[again], changing[again])
    mirrored = dataclasses.replace(CONFIG, mirror=True, images_per_class=1)
    labels = torch.zeros(200, dtype=torch.int64)
    images = condensed(mirrored).draw(labels, torch.Generator().manual_seed(1))
    turned = (images == images[0].flip(-1)).flatten(1).all(1)
    assert 70 < int(turned.sum()) < 130


def test_a_factor_stores_smaller_images_more_of_them() -> None:
    config = dataclasses.replace(CONFIG, factor=2)
    made = condensed(config)
    assert (made.n_distinct, config.stored) == (8, (1, 3, 3))
    assert made.weights.numel() >= condensed().weights.numel()
    assert made().shape == (3, 8, 1, 6, 5)
    assert torch.equal(drawn(made)[0], made()[2, 0])


@pytest.mark.parametrize(
    ("labels", "turns"),
    [([0, 1, 0, 0, 1], [0, 0, 1, 2, 1]), ([3, 3, 3], [0, 1, 2]), ([], []), ([2], [0])],
)
def test_turns_count_how_often_a_label_stood_before(labels: list[int], turns: list[int]) -> None:
    assert turns_of(torch.tensor(labels, dtype=torch.int64)).tolist() == turns


def test_a_file_brings_back_the_same_set(tmp_path: Path) -> None:
    made = condensed(dataclasses.replace(CONFIG, factor=2, warp=0.5))
    numbers = json.dumps(plain(dataclasses.asdict(made.config)))
    save_file(made.state_dict(), tmp_path / "c.safetensors", metadata={"condensed": numbers})
    again = load_network(tmp_path / "c.safetensors")
    assert isinstance(again, Condensed) and again.config == made.config
    assert torch.equal(drawn(again), drawn(made))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"images_per_class": 0}, "images_per_class must be at least 1, got 0"),
        ({"n_classes": 0}, "n_classes must be at least 1, got 0"),
        ({"factor": 6}, "factor must be at most the shorter side of the images, 5, got 6"),
        ({"warp": -0.1}, "warp must be a number of at least 0, got -0.1"),
        ({"shape": (0, 6, 5)}, "shape must be"),
    ],
)
def test_numbers_that_make_no_set_are_refused(numbers: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **numbers)
