from __future__ import annotations

import math

import pytest

from dpgen.evaluation.metrics import Metric
from dpgen.report.axes import Axis, spread, value_axis


def test_a_linear_axis_puts_values_in_proportion() -> None:
    axis = Axis(0.0, 10.0, 250.0, 50.0)
    assert [axis.position(v) for v in (0, 2.5, 10)] == [250, 200, 50]


def test_a_logarithmic_axis_gives_equal_ratios_equal_lengths() -> None:
    axis = Axis(0.1, 10.0, 100.0, 300.0, logarithmic=True)
    assert axis.position(0.1) == 100 and axis.position(10) == 300
    assert math.isclose(axis.position(1), 200)
    assert math.isclose(axis.position(2) - axis.position(1), 100 * math.log10(2))


@pytest.mark.parametrize("logarithmic", [False, True])
def test_a_single_value_lies_in_the_middle(logarithmic: bool) -> None:
    assert Axis(3.0, 3.0, 40.0, 60.0, logarithmic).position(3.0) == 50


def test_ticks_are_round_numbers_within_the_axis() -> None:
    assert Axis(0.5, 1.0, 0, 1).ticks() == (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    assert Axis(0, 130, 0, 1).ticks() == (0, 25, 50, 75, 100, 125)
    assert Axis(0.7, 240, 0, 1, True).ticks() == (1, 2, 5, 10, 20, 50, 100, 200)


def test_the_axis_of_a_distance_starts_at_zero_and_holds_every_value() -> None:
    axis = value_axis(Metric("fid"), [52.0, 93.0], 248.0, 14.0)
    assert (axis.low, axis.high, axis.logarithmic) == (0, 100, False)
    assert (axis.start, axis.stop) == (248, 14)


def test_the_axis_of_an_accuracy_ends_at_one_and_need_not_start_at_zero() -> None:
    axis = value_axis(Metric("accuracy_cnn"), [0.56, 0.999], 248.0, 14.0)
    assert (axis.low, axis.high) == (0.5, 1.0)


def test_values_that_span_a_factor_of_twenty_get_a_logarithmic_axis() -> None:
    assert value_axis(Metric("fid"), [5.0, 100.0], 1.0, 0.0).logarithmic
    assert not value_axis(Metric("fid"), [5.01, 100.0], 1.0, 0.0).logarithmic
    assert not value_axis(Metric("fid"), [-1.0, 100.0], 1.0, 0.0).logarithmic
    assert not value_axis(Metric("accuracy_cnn"), [0.04, 0.98], 1.0, 0.0).logarithmic


def test_a_perfect_accuracy_has_an_axis_that_ends_at_it() -> None:
    axis = value_axis(Metric("accuracy_cnn"), [1.0, 1.0], 248.0, 14.0)
    assert axis.low < axis.high == 1.0


@pytest.mark.parametrize("values", [[0.0], [1.0, 1.0], [-3.0], [1e-9, 1.1e-9]])
def test_equal_values_still_have_an_axis(values: list[float]) -> None:
    axis = value_axis(Metric("other"), values, 248.0, 14.0)
    assert axis.low <= min(values) <= max(values) <= axis.high and axis.low < axis.high
    assert len(axis.ticks()) >= 2


def test_crowded_labels_are_moved_apart_and_keep_their_order() -> None:
    assert spread([50.0, 10.0, 12.0], 11, 0, 100) == [50, 10, 21]
    assert spread([99.0, 98.0], 11, 0, 100) == [100, 89]
    assert spread([5.0, 40.0], 11, 0, 100) == [5, 40]
