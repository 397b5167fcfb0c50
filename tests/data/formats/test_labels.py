"""Labels in the forms in which people have them, and which class each of them is."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pytest

from dpgen.data.formats.labels import settled
from dpgen.data.formats.records import as_labels


@pytest.mark.parametrize(
    ("values", "names", "found"),
    [
        ([False, True, True], ("well", "ill"), [0, 1, 1]),
        (np.array([True, False]), ("0", "1"), [1, 0]),
        (["True", "false"], ("well", "ill"), [1, 0]),
        ([True, False], ("True", "False"), [0, 1]),
        (["TRUE", "FALSE"], ("true", "false"), [0, 1]),
        (["True", "False"], ("False", "True"), [1, 0]),
        ([-1, 1, -1], ("-1", "1"), [0, 1, 0]),
        ([1, -1], ("1", "-1"), [0, 1]),
        (["1.0", "0.0"], ("0", "1"), [1, 0]),
        (["2.0", "1.0"], ("1", "2"), [1, 0]),
        (["1.0", "2.0"], ("1.0", "2.0"), [0, 1]),
        ([0, 499, 998], ("0", "499", "998"), [0, 1, 2]),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:.*labels are False and True")
def test_a_label_is_the_class_that_it_means(
    values: Sequence[int | str] | np.ndarray, names: tuple[str, ...], found: list[int]
) -> None:
    assert settled(values, names, name="x")[0].tolist() == found


def test_which_class_false_is_taken_for_is_told_unless_the_names_say_it() -> None:
    with pytest.warns(UserWarning, match="False is class well, True is class ill"):
        settled([True, False], ("well", "ill"), name="x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settled([True, False], ("no", "yes"), name="x", stated=("false", "true"))


@pytest.mark.parametrize(
    ("values", "names", "why"),
    [
        ([True, False], ("a", "b", "c"), "labels are False and True.*name two, that of False"),
        ([True, False], ("0",), "name two"),
        ([True, 2], ("0", "1"), "all truth values or none"),
        (["True", "maybe"], ("0", "1"), "must name one of the classes 0, 1, got 'True'"),
        ([True, False], None, "which classes there are"),
        ([0, -1], ("0", "1"), "x: labels must be in 0..1, got -1 .*no label.*--classes=-1,1"),
        ([2, 0], ("0", "1"), "x: labels must be in 0..1, got 2 .*as many classes as there are"),
        (["1.5", "0.0"], ("0", "1"), "got '1.5'"),
    ],
    ids=str,
)
def test_labels_that_are_no_classes_are_refused_with_a_way_out(
    values: Sequence[int | str], names: tuple[str, ...] | None, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        settled(values, names, name="x")


def test_the_word_labels_stands_once_in_a_message() -> None:
    for name in ("a.npz: labels", "the dictionary's labels", "a.npz"):
        with pytest.raises(ValueError, match="labels") as caught:
            as_labels([0.5], name)
        assert str(caught.value).count("labels must be") == 1
        assert "labels: labels" not in str(caught.value)
