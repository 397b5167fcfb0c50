"""Labels are chosen by position, by name or by count; a class that there is not is refused."""

from __future__ import annotations

import pytest
import torch

from dpgen.generator.labels import Labels, labels_of

NAMES = ("ill", "well", "unclear")


@pytest.mark.parametrize(
    ("given", "n", "expected"),
    [
        (None, 5, [0, 1, 2, 0, 1]),
        ([2, 0, 0], None, [2, 0, 0]),
        (["well", "ill"], 2, [1, 0]),
        (torch.tensor([1, 1], dtype=torch.int32), None, [1, 1]),
        ({"ill": 2, "well": 2, "unclear": 2}, 6, [0, 1, 2, 0, 1, 2]),
        ({"unclear": 1, "ill": 3}, None, [0, 0, 2, 0]),
        ({"well": 2, "ill": 0}, None, [1, 1]),
    ],
    ids=["none", "positions", "names", "tensor", "equal", "in-turn", "empty-class"],
)
def test_labels_are_those_that_were_asked_for(
    given: Labels | None, n: int | None, expected: list[int]
) -> None:
    labels = labels_of(given, n, NAMES)
    assert labels.tolist() == expected and labels.dtype == torch.int64


def test_equal_counts_are_the_default_labels() -> None:
    counts = dict.fromkeys(NAMES, 40)
    assert torch.equal(labels_of(counts, None, NAMES), labels_of(None, 120, NAMES))


def test_every_stretch_of_counted_labels_has_the_balance_of_all() -> None:
    labels = labels_of({"ill": 300, "well": 100, "unclear": 100}, None, NAMES)
    assert torch.bincount(labels).tolist() == [300, 100, 100]
    for start in range(0, 500, 50):
        assert 28 <= int((labels[start : start + 50] == 0).sum()) <= 32


@pytest.mark.parametrize(
    ("shares", "n", "expected"),
    [
        ([0.5, 0.3, 0.2], 10, [5, 3, 2]),
        ([0.5, 0.25, 0.25], 3, [1, 1, 1]),
        ([0.34, 0.33, 0.33], 1, [1, 0, 0]),
        ([1.0, 0.0, 0.0], 7, [7, 0, 0]),
    ],
    ids=["exact", "remainders", "one-image", "empty-classes"],
)
def test_released_shares_give_the_nearest_counts(
    shares: list[float], n: int, expected: list[int]
) -> None:
    labels = labels_of("released", n, NAMES, shares)
    assert torch.bincount(labels, minlength=3).tolist() == expected


@pytest.mark.parametrize(
    ("given", "n", "message"),
    [
        (None, None, "n must be given where labels are not"),
        (None, 0, "n must be at least 1, got 0"),
        ([], None, "n must be at least 1, got 0"),
        ([0, 1], 3, r"labels must be as many as n = 3, got \(2,\)"),
        ({"ill": 2}, 3, r"as many as n = 3, got \(2,\)"),
        ([3], None, r"labels must lie in \[0, 2\], got 3 to 3"),
        ([-1], None, r"labels must lie in \[0, 2\], got -1 to -1"),
        (["wel"], None, "there is no class 'wel': the nearest is 'well'"),
        ({"unclaer": 1}, None, "there is no class 'unclaer': the nearest is 'unclear'"),
        ({"ill": -1}, None, "count of class 'ill' must be a whole number of at least 0, got -1"),
        ({"ill": 1.5}, None, "must be a whole number of at least 0, got 1.5"),
        ({"ill": 0}, None, "must count at least one image"),
        ({}, None, "must count at least one image"),
        ("released", 3, "holds no released class counts"),
        ("balanced", 3, "counts by class, 'uniform' or 'released', got 'balanced'"),
        (torch.zeros(2), None, "labels must be whole numbers, got torch.float32"),
    ],
    ids=[
        "nothing", "no-images", "no-labels", "too-few", "other-total", "beyond", "negative",
        "near-name", "near-count", "negative-count", "fraction", "zero", "empty",
        "no-shares", "other-word", "floats",
    ],
)  # fmt: skip
def test_labels_that_cannot_be_are_refused_by_name(
    given: Labels | None, n: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        labels_of(given, n, NAMES)
