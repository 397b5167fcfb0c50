from __future__ import annotations

from typing import Any

import pytest

from dpgen.report.published import comparable, published

MNIST: dict[str, Any] = {"name": "mnist", "shape": [1, 28, 28], "reference": "train"}


def methods(data: dict[str, Any], metric: str, *epsilons: float) -> list[str]:
    return [row.method for row in comparable(data, metric, epsilons or (0.2, 10.0))]


def test_only_the_same_metric_compares() -> None:
    assert methods(MNIST, "fid") == [
        "DP-MERF", "DP-Kernel", "GS-WGAN", "DPDM", "DPDM, re-run", "DP-FETA", "FETA-Pro"
    ]  # fmt: skip
    assert methods(MNIST, "accuracy_cnn") == ["DP-MERF", "GS-WGAN", "DPDM", "DP-SGD classifier"]
    for name in ("classifier_fid", "accuracy_mlp", "accuracy_resnet", "kid"):
        assert methods(MNIST, name) == []


@pytest.mark.parametrize(
    "data",
    [
        {"name": "digits", "shape": [1, 8, 8]},
        {"name": "mnist", "shape": [1, 32, 32]},
        {"name": "mnist-3d", "shape": [1, 28, 28]},
        {"name": "mnist"},
        {},
    ],
)
def test_only_the_same_data_set_at_the_same_size_compares(data: dict[str, Any]) -> None:
    assert methods({**data, "reference": "train"}, "fid") == []


def test_part_of_a_name_is_another_metric() -> None:
    celeba = {"name": "celeba", "shape": [3, 64, 64]}
    assert methods(celeba, "inception_score") == ["DP-SAD"] and methods(celeba, "score") == []


def test_a_name_is_the_same_in_other_letters() -> None:
    fashion = {**MNIST, "name": "Fashion_MNIST"}
    assert methods(fashion, "accuracy_cnn") == ["DP-MERF", "GS-WGAN", "DPDM"]
    assert {row.data for row in published(fashion)} == {"fashion-mnist"}


def test_published_fid_compares_with_the_training_split_only() -> None:
    assert methods({**MNIST, "reference": "test"}, "fid") == []
    assert methods({**MNIST, "reference": "test"}, "accuracy_cnn") != []


def test_points_outside_the_epsilons_are_left_out() -> None:
    dpdm = next(r for r in comparable(MNIST, "fid", [1.0, 5.0]) if r.method == "DPDM")
    assert dpdm.points == ((1.0, 23.4),)
    assert methods(MNIST, "fid", 1.0, 5.0) == [
        "DP-MERF", "DPDM", "DPDM, re-run", "DP-FETA", "FETA-Pro"
    ]  # fmt: skip
    assert comparable(MNIST, "fid", []) == ()


def test_numbers_are_those_that_were_printed() -> None:
    found = {(r.method, r.metric): dict(r.points) for r in published(MNIST)}
    assert found["DPDM", "accuracy_cnn"] == {0.2: 0.863, 1: 0.953, 10: 0.981}
    assert found["DPDM", "fid"] == {0.2: 61.9, 1: 23.4, 10: 5.01}
    assert found["FETA-Pro", "fid"] == {0.2: 76.2, 1: 8.0, 10: 2.5}
    assert found["DP-FETA", "accuracy_mean_of_resnets"] == {1: 0.956, 10: 0.981}
    assert found["DP-SGD classifier", "accuracy_cnn"] == {0.2: 0.699, 1: 0.882, 10: 0.964}


def test_unverified_guarantees_are_claims_and_every_row_has_its_source() -> None:
    rows = [
        r
        for name, shape in (("mnist", [1, 28, 28]), ("fashion-mnist", [1, 28, 28]),
                            ("celeba", [3, 64, 64]))
        for r in published({"name": name, "shape": shape})
    ]  # fmt: skip
    assert (
        {r.method for r in rows if r.claim}
        == {"DP-SAD"}
        == {r.method for r in rows if "DP-SAD" in r.method}
    )
    for r in rows:
        assert r.url.startswith("https://arxiv.org/abs/") and r.source and r.protocol
        assert all(0 < v <= 1 for _, v in r.points) or not r.metric.startswith("accuracy")
        assert list(r.points) == sorted(r.points)
    assert len({(r.data, r.method, r.metric) for r in rows}) == len(rows)
