from __future__ import annotations

import math

import pytest

from dpgen.evaluation.metrics import Estimate, Metric, estimate, headlines, ordered


def test_mean_and_standard_error_are_exact() -> None:
    found = estimate([1.0, 2.0, 6.0])
    assert found is not None and found.mean == 3.0
    # Sample variance (4 + 1 + 9) / 2 = 7, over three.
    assert found.error is not None and math.isclose(found.error, math.sqrt(7 / 3))
    assert math.isclose(found.low, 3 - math.sqrt(7 / 3))
    assert math.isclose(found.high, 3 + math.sqrt(7 / 3))


def test_one_value_has_no_error_and_none_has_no_mean() -> None:
    assert estimate([0.5]) == Estimate(0.5, None, (0.5,))
    assert estimate([]) is None


@pytest.mark.parametrize(
    ("name", "heading", "better"),
    [
        ("fid", "FID ↓", "low"),
        ("classifier_kid", "classifier KID ↓", "low"),
        ("inception_score", "inception score ↑", "high"),
        ("classifier_score", "classifier score ↑", "high"),
        ("recall", "recall ↑", "high"),
        ("accuracy_wide-resnet", "accuracy, wide-resnet ↑", "high"),
        ("kid_std", "kid std", None),
        ("something_else", "something else", None),
    ],
)
def test_a_name_says_what_is_better(name: str, heading: str, better: str | None) -> None:
    assert (Metric(name).heading, Metric(name).better) == (heading, better)


def test_accuracies_are_written_as_percentages() -> None:
    text = Metric("accuracy_cnn").text(Estimate(0.9514, 0.0026, (0.9, 1.0)), 1)
    assert text == "95.1 ± 0.3 %"
    assert Metric("fid").text(Estimate(12.345, None, (12.345,)), 2) == "12.35"


@pytest.mark.parametrize(
    ("means", "decimals"),
    [([250.0], 1), ([12.3, 250.0], 1), ([5.2, 250.0], 2), ([0.0123], 4), ([0.0], 2), ([1e-9], 4)],
)
def test_three_digits_of_the_least_mean_decide_for_all(means: list[float], decimals: int) -> None:
    assert Metric("fid").decimals(means) == decimals
    assert Metric("accuracy_cnn").decimals(means) == 1


def test_order_is_fid_accuracies_fidelity_then_the_rest() -> None:
    names = ["zeta", "recall", "accuracy_mlp", "classifier_fid", "kid", "accuracy_cnn", "kid",
             "classifier_kid", "fid"]  # fmt: skip
    assert [m.name for m in ordered(names)] == [
        "fid", "classifier_fid", "accuracy_mlp", "accuracy_cnn", "kid", "recall", "classifier_kid",
        "zeta",
    ]  # fmt: skip


def test_headlines_prefer_inception_and_the_cnn() -> None:
    def names(*given: str) -> list[str]:
        return [m.name for m in headlines(map(Metric, given))]

    assert names("accuracy_mlp", "classifier_fid", "accuracy_cnn", "fid") == ["fid", "accuracy_cnn"]
    assert names("kid", "classifier_fid", "accuracy_resnet") == [
        "classifier_fid", "accuracy_resnet"
    ]  # fmt: skip
    assert names("recall") == []
