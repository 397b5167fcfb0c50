"""Arrays in memory are the same records as in a file; classes are declared, never counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dpgen import open_images
from dpgen.data.identity import identify
from dpgen.data.sources import open_source

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 8, 8), np.uint8)
RGB = RNG.integers(0, 256, (6, 8, 8, 3), np.uint8)
LABELS = np.array([0, 1, 1, 0, 1, 0])


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        ((GREY, LABELS), (1, 8, 8)),
        ((GREY[..., None], LABELS.tolist()), (1, 8, 8)),
        ((RGB, LABELS[:, None]), (3, 8, 8)),
        ((torch.from_numpy(GREY), torch.from_numpy(LABELS)), (1, 8, 8)),
        ((torch.from_numpy(RGB).permute(0, 3, 1, 2), LABELS), (3, 8, 8)),
        ({"images": RGB, "labels": LABELS}, (3, 8, 8)),
        ({"x": GREY, "y": LABELS.tolist()}, (1, 8, 8)),
    ],
    ids=["pair", "lists", "columns", "tensors", "channels-first", "dictionary", "short-names"],
)
def test_arrays_and_labels_are_read_as_given(data: Any, shape: tuple[int, int, int]) -> None:  # noqa: ANN401
    source = open_source(data, classes=2)
    pixels, labels = source.read(range(6))
    expected = RGB if shape[0] == 3 else GREY[..., None]
    assert source.shape == shape and source.classes_declared
    assert np.array_equal(pixels.permute(0, 2, 3, 1).numpy(), expected)
    assert labels.tolist() == LABELS.tolist() and labels.dtype == torch.int64


def test_arrays_and_the_npz_archive_of_them_are_one_data_set(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=RGB, labels=LABELS)
    ours, filed = open_source((RGB, LABELS), classes=2), open_source(path, classes=2)
    assert identify(ours, b"0" * 32).fingerprint == identify(filed, b"0" * 32).fingerprint


def test_an_array_alone_has_no_classes() -> None:
    assert open_source(RGB).class_names == ("all",)
    assert open_source(torch.from_numpy(GREY)).shape == (1, 8, 8)


def test_labels_without_declared_classes_are_refused_however_they_come() -> None:
    for data in ((GREY, LABELS), {"images": GREY, "labels": LABELS}):
        with pytest.raises(ValueError, match="private labels are not counted.*classes="):
            open_images(data)
    with pytest.raises(ValueError, match=r"labels must be in 0\.\.1, got 2 at record 0"):
        open_images((GREY, LABELS + 2), classes=2)


def test_text_is_the_name_of_a_declared_class() -> None:
    data = open_images((GREY, np.array(["well", "ill"])[LABELS]), classes=["ill", "well"])
    assert data.facts.class_names == ("ill", "well") and data.facts.origin == "named"
    source = open_source((GREY, np.array(["well", "ill"])[LABELS]), classes=["ill", "well"])
    assert source.read(range(6))[1].tolist() == (1 - LABELS).tolist()


def test_class_names_in_a_dictionary_name_the_classes() -> None:
    data = {"images": GREY, "labels": LABELS, "class_names": ["ill", "well"]}
    opened = open_images(data)
    assert opened.facts.class_names == ("ill", "well") and opened.facts.origin == "declared"


def test_a_dictionary_by_split_is_read_by_split() -> None:
    data = {
        "x_train": GREY[:4], "y_train": LABELS[:4], "x_test": GREY[4:], "y_test": LABELS[4:],
    }  # fmt: skip
    assert open_images(data, classes=2).facts.n_records == 4
    assert open_images(data, split="test", classes=2).facts.n_records == 2
    assert open_images(data, split="all", classes=2).facts.n_records == 6


def test_a_mapping_of_data_sets_is_still_a_mapping_of_splits() -> None:
    pairs = [(torch.from_numpy(image)[None], 0) for image in GREY]
    dataset = torch.utils.data.Subset(pairs, range(6))  # type: ignore[arg-type]
    assert open_images({"train": dataset}, classes=1).facts.n_records == 6


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((GREY, LABELS[:5]), "one label per image, got 6 images and 5 labels"),
        ((GREY.astype(np.float32), LABELS), "say which values are black and white"),
        ((GREY.astype(np.int32), LABELS), "must be uint8 or float, got int32"),
        ((GREY, LABELS / 2), "labels must be whole numbers"),
        ((RGB.transpose(0, 3, 1, 2), LABELS), "move the channels last"),
        ((torch.from_numpy(RGB), LABELS), "must be a tensor .N, C, H, W. of 1 or 3 channels"),
        (RGB[0], "one picture or a set of narrow grey ones"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "one picture or a set of few grey ones"),
        ({"pictures": GREY}, "the dictionary must hold images"),
        ({"images": GREY, "labels": LABELS, "class_names": [1, 2]}, "class_names must be a list"),
    ],
    ids=[
        "lengths", "floats", "int32", "fractions", "channels-first-array", "channels-last-tensor",
        "one-picture", "one-tensor", "no-images", "numbers-for-names",
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused_by_name(data: Any, message: str) -> None:  # noqa: ANN401
    with pytest.raises(ValueError, match=message):
        open_images(data, classes=2)


def test_float_arrays_are_scaled_by_their_value_range() -> None:
    source = open_source((GREY / 255, LABELS), classes=2, value_range=(0, 1))
    assert np.array_equal(source.read(range(6))[0][:, 0].numpy(), GREY)
