"""The method that is chosen is one that exists, and the same on every machine of a kind."""

from __future__ import annotations

import itertools

import pytest

from dpgen.images.facts import PublicFacts
from dpgen.methods import METHODS, find_settings
from dpgen.methods.advice import CPU_NUMBERS, GPU_NUMBERS, advised, advised_size
from dpgen.settings import assign, from_dict, parse_assignment


def facts(shape: tuple[int, int, int], n: int, n_classes: int = 2) -> PublicFacts:
    return PublicFacts(shape, tuple(str(k) for k in range(n_classes)), n)


@pytest.mark.parametrize("gpu", [False, True])
def test_every_advice_can_be_followed(gpu: bool) -> None:
    shapes, counts, budgets = ((1, 28, 28), (3, 32, 32)), (100, 60_000), (0.1, 10.0)
    for shape, n, epsilon in itertools.product(shapes, counts, budgets):
        advice = advised(facts(shape, n), epsilon, gpu=gpu)
        values: dict[str, object] = {}
        for name, value in advice.settings.items():
            assign(values, *parse_assignment(f"{name}={value}"))
        assert advice.method in METHODS
        resolved = from_dict(find_settings(advice.method), values).resolved(facts(shape, n))
        assert resolved.mode != "paper"


def test_a_laptop_gets_minutes_and_many_records_a_labeller() -> None:
    few = advised(facts((3, 32, 32), 1500), 3.0, gpu=False)
    assert few.command == "pge --set mode=sketch" and "no GPU" in few.reasons[0]
    assert "brightness and colours" in few.reasons[1]
    coloured = advised(facts((3, 32, 32), 60_000, 10), 3.0, gpu=False)
    assert coloured.command == few.command and coloured.reasons[1] == few.reasons[1]
    many = advised(facts((1, 28, 28), 60_000, 10), 1.0, gpu=False)
    assert many.command == "pge --set mode=sketch --set sketch.labeller_share=0.2"
    assert "6000 records a class" in many.reasons[1]
    unlabelled = advised(PublicFacts((1, 28, 28), ("all",), 60_000), 1.0, gpu=False)
    assert unlabelled.command == "pge --set mode=sketch"


def test_dp_sgd_is_for_a_gpu_many_colour_images_and_a_large_budget() -> None:
    large = facts((3, 32, 32), 50_000)
    assert advised(large, 10.0, gpu=True).method == "dp-sad"
    assert advised(large, 1.0, gpu=True).method == "pge"
    assert advised(large, 10.0, gpu=False).method == "pge"


@pytest.mark.parametrize("gpu", [False, True])
def test_images_are_resized_only_where_they_are_large_for_the_machine(gpu: bool) -> None:
    most = GPU_NUMBERS if gpu else CPU_NUMBERS
    for channels, side in itertools.product((1, 3), (8, 28, 32, 64, 100, 256, 2000)):
        size = advised_size((channels, side, side), gpu=gpu)
        if channels * side * side <= most:
            assert size is None
        else:
            assert size is not None and size < side and channels * size * size <= most


def test_a_size_that_takes_over_half_an_hour_on_two_cores_is_not_chosen() -> None:
    # 64x64 in grey was estimated at 37 minutes, 32x32 at 9 in grey and in colour.
    assert advised_size((1, 64, 64), gpu=False) == 32
    assert advised_size((3, 32, 32), gpu=False) is None
    assert advised_size((1, 64, 64), gpu=True) is None
