from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

from dpgen.data.sources import open_source
from dpgen.images.images import Images, to_float

PIXELS = torch.randint(
    0, 256, (5, 3, 6, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(4)
)
LABELS = torch.tensor([2, 0, 1, 0, 2])


class Pairs(Dataset):
    def __init__(self, item_fn: Callable[[int], object], n: int = 5) -> None:
        self.item_fn, self.n = item_fn, n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> object:
        return self.item_fn(index)


def as_picture(index: int) -> Image.Image:
    return Image.fromarray(PIXELS[index].permute(1, 2, 0).numpy())


class Table(Pairs):
    """What a Hugging Face data set shows: features and rows."""

    def __init__(self) -> None:
        super().__init__(lambda i: {"img": as_picture(i), "label": int(LABELS[i]), "id": i})
        image, label = type("Image", (), {})(), type("ClassLabel", (), {"names": list("abc")})()
        self.features = {"id": SimpleNamespace(), "img": image, "label": label}


def test_images_come_back_as_the_uint8_they_stand_for() -> None:
    source = open_source(Images(to_float(PIXELS), LABELS), classes=3)
    pixels, labels = source.read(range(5))
    assert torch.equal(pixels, PIXELS) and torch.equal(labels, LABELS)
    assert source.class_names == ("0", "1", "2") and not source.public


def test_images_whose_labels_are_all_zero_have_no_classes() -> None:
    assert open_source(Images(to_float(PIXELS), 0 * LABELS)).class_names == ("all",)


@pytest.mark.parametrize(
    ("pixels", "labels", "word"),
    [
        (to_float(PIXELS) * 1.5, LABELS, r"in \[-1, 1\]"),
        (to_float(PIXELS).where(PIXELS > 5, torch.nan), LABELS, "numbers in"),
        (to_float(PIXELS), LABELS[:4], "5 images and 4 labels"),
        (to_float(PIXELS), LABELS - 1, "in 0..2, got -1"),
        (to_float(PIXELS), LABELS.float(), "whole numbers"),
        (to_float(PIXELS)[:0], LABELS[:0], "at least one record"),
        (PIXELS, LABELS, "float tensor"),
        (to_float(PIXELS)[0], LABELS, "float tensor"),
    ],
)
def test_bad_images_are_refused(pixels: torch.Tensor, labels: torch.Tensor, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        open_source(Images(pixels, labels), classes=3)


@pytest.mark.parametrize(
    "item_fn",
    [
        lambda i: (PIXELS[i], int(LABELS[i])),
        lambda i: (PIXELS[i].permute(1, 2, 0).numpy(), LABELS[i]),
        lambda i: (as_picture(i), np.int64(LABELS[i])),
    ],
    ids=["tensors", "arrays", "pictures"],
)
def test_items_of_a_torch_dataset_may_be_tensors_arrays_or_pictures(
    item_fn: Callable[[int], object],
) -> None:
    pixels, labels = open_source(Pairs(item_fn), split="train", classes=3).read(range(5))
    assert torch.equal(pixels, PIXELS) and torch.equal(labels, LABELS)


def test_a_torch_dataset_names_its_classes() -> None:
    dataset = TensorDataset(PIXELS, LABELS)
    assert open_source(dataset, classes=3).class_names == ("0", "1", "2")
    dataset.classes = ["cat", "dog", "eel", "fox"]
    assert open_source(dataset).class_names == ("cat", "dog", "eel", "fox")


def test_a_torch_dataset_of_bare_images_has_no_classes() -> None:
    source = open_source(Pairs(lambda i: PIXELS[i]))
    assert source.class_names == ("all",) and source.read([4])[1].tolist() == [0]


def test_float_tensors_need_their_range() -> None:
    dataset = TensorDataset(PIXELS / 255, LABELS)
    with pytest.raises(ValueError, match="--value-range"):
        open_source(dataset, classes=3)
    scaled = open_source(dataset, value_range=(0, 1), classes=3)
    assert torch.equal(scaled.read(range(5))[0], PIXELS)


def test_items_of_many_sizes_are_resized() -> None:
    dataset = Pairs(lambda i: (PIXELS[i, :, : 6 - i], 0))
    with pytest.raises(ValueError, match="Pairs record 1 must be 6x4.*--size"):
        open_source(dataset, classes=1)
    assert open_source(dataset, size=3, classes=1).read(range(5))[0].shape == (5, 3, 3, 3)


@pytest.mark.parametrize(
    ("dataset", "word"),
    [
        (
            Pairs(lambda i: (torch.randint(0, 256, (1, 4, 4), dtype=torch.uint8), 0)),
            "random transform",
        ),
        (Pairs(lambda i: (PIXELS[i], 0), n=0), "at least one record"),
        (Pairs(lambda i: (PIXELS[i], "cat")), "whole number, got 'cat'"),
        (Pairs(lambda i: (PIXELS[i], 1.5)), "whole number, got 1.5"),
        (Pairs(lambda i: (PIXELS[i], -1)), "which classes there are"),
        (Pairs(lambda i: (PIXELS[i], 0, 0)), "got 3 values"),
        (Pairs(lambda i: (PIXELS[i], 0) if i else PIXELS[i]), "record 0 must have a label"),
        (Pairs(lambda i: ("text", 0)), "got str"),
        (Pairs(lambda i: (torch.zeros(4, 5, 5, dtype=torch.uint8), 0)), "alpha|1 or 3 channels"),
        (Pairs(lambda i: (Image.new("RGBA", (4, 4)), 0)), "RGBA"),
        (Pairs(lambda i: (Image.new("I;16", (4, 4)), 0)), "I;16"),
        (Pairs(lambda i: (np.zeros((4, 4), np.uint16), 0)), "uint16"),
        (iter([1]), "len and index"),
    ],
)
def test_a_bad_dataset_is_refused(dataset: object, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        open_source(dataset)


def test_a_hugging_face_dataset_is_read_by_its_features() -> None:
    source = open_source(Table())
    pixels, labels = source.read(range(5))
    assert source.class_names == ("a", "b", "c")
    assert torch.equal(pixels, PIXELS) and torch.equal(labels, LABELS)


def test_a_mapping_of_splits_is_asked_by_name() -> None:
    splits = {"train": Table(), "validation": Table()}
    assert len(open_source(splits, split="train")) == 5
    with pytest.raises(ValueError, match="'train', 'validation'.*got 'test'"):
        open_source(splits, split="test")


@pytest.mark.parametrize("name", ["labels", "target", "fine_label", "y"])
def test_a_hugging_face_column_of_numbers_goes_by_any_usual_name(name: str) -> None:
    table = Table()
    table.features = {"img": table.features["img"], name: SimpleNamespace(), "id": 0}
    table.item_fn = lambda i: {"img": as_picture(i), name: int(LABELS[i]), "id": i}
    assert torch.equal(open_source(table, classes=3).read(range(5))[1], LABELS)
    with pytest.raises(ValueError, match="--classes N"):
        open_source(table)
    table.features["category"] = SimpleNamespace()
    with pytest.raises(ValueError, match="the data set must have one label column"):
        open_source(table, classes=3)


def test_columns_that_are_passed_over_are_told() -> None:
    table = Table()
    table.features = {"img": table.features["img"], "breed": SimpleNamespace()}
    with pytest.warns(UserWarning, match="passed over: breed"):
        assert open_source(table).class_names == ("all",)


def test_text_labels_are_names_of_classes() -> None:
    dataset = Pairs(lambda i: (PIXELS[i], "cde"[LABELS[i]]))
    assert torch.equal(open_source(dataset, classes=list("cde")).read(range(5))[1], LABELS)
    dataset.classes = ["e", "d", "c"]
    assert torch.equal(open_source(dataset).read(range(5))[1], 2 - LABELS)


def test_a_split_of_a_mapping_may_go_by_another_word() -> None:
    splits = {"Training": Table(), "testing": Table(), "val": Table()}
    assert len(open_source(splits, split="train")) == len(open_source(splits, split="test")) == 5
    with pytest.raises(ValueError, match="got 'train'"):
        open_source({"train_a": Table(), "train_b": Table()}, split="train")


def test_floats_in_a_small_part_of_their_range_are_told() -> None:
    with pytest.warns(UserWarning, match="TensorDataset: the pixels lie in 0..1 and black"):
        open_source(TensorDataset(PIXELS / 255, LABELS), value_range=(0, 255), classes=3)


def test_a_named_column_of_a_hugging_face_dataset_holds_the_labels() -> None:
    table = Table()
    table.features = {**table.features, "breed": SimpleNamespace()}
    table.item_fn = lambda i: {"img": as_picture(i), "label": 0, "breed": int(LABELS[i])}
    for data in (table, {"train": table}):
        source = open_source(data, split="train", classes=3, label_column="breed")
        assert torch.equal(source.read(range(5))[1], LABELS)
    with pytest.raises(ValueError, match=r"label column 'race', got \['id', 'label', 'breed'\]"):
        open_source(table, label_column="race")
    with pytest.raises(ValueError, match="leave label_column='breed' out"):
        open_source((PIXELS, LABELS), label_column="breed")
