from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dpgen.data.formats.pictures import encode_png
from dpgen.data.sources import open_source

RNG = np.random.default_rng(3)


def picture(path: Path, value: int = 0, shape: tuple[int, int, int] = (6, 6, 1)) -> np.ndarray:
    pixels = np.full(shape, value, np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(pixels))
    return pixels


def test_class_folders_are_classes_in_the_order_of_their_names(tmp_path: Path) -> None:
    for i, name in enumerate(["zebra/0.png", "ant/b.png", "ant/a.png", "dot net/ü.png"]):
        picture(tmp_path / name, i)
    source = open_source(tmp_path)
    pixels, labels = source.read(range(4))
    assert source.class_names == ("ant", "dot net", "zebra")
    assert pixels[:, 0, 0, 0].tolist() == [2, 1, 3, 0]
    assert labels.tolist() == [0, 0, 1, 2]


def test_a_flat_folder_has_no_classes(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 5)
    Image.new("L", (6, 6), 9).save(tmp_path / "b.jpg")
    (tmp_path / "README.txt").write_text("no picture")
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    source = open_source(tmp_path, split="test")
    assert (len(source), source.class_names) == (2, ("all",))
    assert source.read([0, 1])[0][:, 0, 0, 0].tolist() == [5, 9]


def test_train_and_test_folders_are_splits_with_one_class_list(tmp_path: Path) -> None:
    picture(tmp_path / "train/a/0.png", 1)
    picture(tmp_path / "train/b/0.png", 2)
    picture(tmp_path / "test/b/0.png", 3)
    test = open_source(tmp_path, split="test")
    assert test.class_names == ("a", "b")
    assert test.read([0])[1].tolist() == [1]
    assert len(open_source(tmp_path, split="train")) == 2
    assert open_source(tmp_path).read(range(3))[0][:, 0, 0, 0].tolist() == [1, 2, 3]


def test_validation_is_a_third_split_and_a_folder_of_no_split_is_refused(tmp_path: Path) -> None:
    for i, split in enumerate(("train", "test", "val")):
        picture(tmp_path / split / "a/0.png", i)
    for split, values in (("train", [0]), ("test", [1]), ("all", [0, 1, 2])):
        pixels, _ = open_source(tmp_path, split=split).read(range(len(values)))
        assert pixels[:, 0, 0, 0].tolist() == values
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/readme.txt").write_text("no data")
    assert len(open_source(tmp_path, split="train")) == 1
    picture(tmp_path / "unlabelled/a/0.png")
    for split in ("train", "test", "all"):
        with pytest.raises(ValueError, match="unlabelled holds data.*point at .*train itself"):
            open_source(tmp_path, split=split)


def test_mixed_sizes_need_a_size(tmp_path: Path) -> None:
    picture(tmp_path / "a/0.png")
    picture(tmp_path / "a/1.png", 9, (8, 12, 1))
    with pytest.raises(
        ValueError, match="1.png must be 6x6 like the first record, got 8x12.*--size"
    ):
        open_source(tmp_path)
    source = open_source(tmp_path, size=4)
    assert source.shape == (1, 4, 4)
    assert source.read([1])[0].unique().tolist() == [9]
    for size in (4, 6):  # the identity is of the records as they are, even where the first one fits
        raw = open_source(tmp_path, size=size).raw_records()
        assert [pixels.shape for pixels, _ in raw] == [(6, 6, 1), (8, 12, 1)]


def test_mixed_channels_need_channels(tmp_path: Path) -> None:
    picture(tmp_path / "a/0.png")
    picture(tmp_path / "a/1.png", 9, (6, 6, 3))
    with pytest.raises(ValueError, match="1 channels like the first record, got 3.*--channels"):
        open_source(tmp_path)
    assert open_source(tmp_path, channels=3).read([0, 1])[0].shape == (2, 3, 6, 6)


def test_an_empty_class_folder_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "a/0.png")
    (tmp_path / "b").mkdir()
    with pytest.raises(ValueError, match="class folder .*b holds no images"):
        open_source(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no data"):
        open_source(tmp_path)


@pytest.mark.parametrize("name", ["a/bad.png", "bad.png", "a/notes.txt"])
def test_a_damaged_picture_is_refused_by_name(tmp_path: Path, name: str) -> None:
    picture(tmp_path / Path(name).parent / "0.png")
    (tmp_path / name).write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=name):
        open_source(tmp_path)


@pytest.mark.parametrize("place", ["a/deep/0.png", "0.png"])
def test_a_folder_of_two_layouts_is_refused(tmp_path: Path, place: str) -> None:
    picture(tmp_path / "a/0.png")
    picture(tmp_path / place)
    with pytest.raises(ValueError, match="sub-folders|pictures only"):
        open_source(tmp_path)


def test_two_kinds_in_one_folder_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "0.png")
    np.savez(tmp_path / "a.npz", images=np.zeros((1, 6, 6), np.uint8))
    with pytest.raises(ValueError, match="one kind of data, got folder and npz"):
        open_source(tmp_path)


def test_data_in_a_class_folder_are_refused_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data/a.npz", images=np.zeros((1, 6, 6), np.uint8))
    with pytest.raises(ValueError, match="got npz data: point at .*data itself"):
        open_source(tmp_path)
    assert len(open_source(tmp_path / "data")) == 1


def test_a_picture_file_is_no_data_set(tmp_path: Path) -> None:
    picture(tmp_path / "0.png")
    with pytest.raises(ValueError, match="folder that holds"):
        open_source(tmp_path / "0.png")


def test_a_picture_of_another_format_is_not_passed_over(tmp_path: Path) -> None:
    picture(tmp_path / "0.png")
    Image.new("L", (6, 6)).save(tmp_path / "1.gif")
    with pytest.raises(ValueError, match="1.gif"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "JSON"),
        ('{"labels": []}', "rename it"),
        ('{"schema": "dpgen-dataset/1", "class_names": "ab"}', "list of names"),
        (
            '{"schema": "dpgen-dataset/1", "class_names": ["b"]}',
            "must be a class that dataset.json",
        ),
    ],
)
def test_a_class_list_that_does_not_fit_is_refused(tmp_path: Path, text: str, word: str) -> None:
    picture(tmp_path / "a/0.png")
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(ValueError, match=word):
        open_source(tmp_path)
