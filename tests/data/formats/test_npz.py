from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dpgen.data.formats import npy, npz
from dpgen.data.formats.archive_keys import Keys
from dpgen.data.sources import open_source

RNG = np.random.default_rng(2)
PIXELS = RNG.integers(0, 256, (6, 5, 4, 3), np.uint8)
LABELS = np.array([3, 0, 1, 1, 2, 0])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_is_read_as_it_was_saved(tmp_path: Path, save: object) -> None:
    save(tmp_path / "a.npz", images=PIXELS, labels=LABELS, class_names=np.array(list("wxyz")))
    source = open_source(tmp_path / "a.npz")
    pixels, labels = source.read(range(6))
    assert np.array_equal(pixels.numpy().transpose(0, 2, 3, 1), PIXELS)
    assert labels.tolist() == LABELS.tolist()
    assert source.class_names == ("w", "x", "y", "z")


def test_grey_archives_without_labels_have_one_class(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", PIXELS[..., 0])
    source = open_source(tmp_path)
    assert (source.shape, source.class_names) == ((1, 5, 4), ("all",))
    assert source.read([5])[1].tolist() == [0]


def test_column_major_arrays_are_read_in_their_order(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.asfortranarray(PIXELS))
    pixels = open_source(tmp_path).read([3])[0]
    assert np.array_equal(pixels[0].numpy().transpose(1, 2, 0), PIXELS[3])


@pytest.mark.parametrize("mapped_bytes", [0, 2**30])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_shards_are_one_data_set_held_or_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mapped_bytes: int, save: object
) -> None:
    monkeypatch.setattr(npy, "MAPPED_BYTES", mapped_bytes)
    for i, (a, b) in enumerate([(0, 2), (2, 3), (3, 6)]):
        save(tmp_path / f"images-{i:05d}.npz", images=PIXELS[a:b], labels=LABELS[a:b])
    source = open_source(tmp_path, classes=4)
    pixels, labels = source.read([5, 0, 2, 3, 1, 4])
    assert np.array_equal(pixels.numpy().transpose(0, 2, 3, 1), PIXELS[[5, 0, 2, 3, 1, 4]])
    assert labels.tolist() == LABELS[[5, 0, 2, 3, 1, 4]].tolist()
    assert all(np.array_equal(a, b) for (a, _), b in zip(source.raw_records(), PIXELS, strict=True))


def test_a_mapped_archive_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", labels=LABELS, images=PIXELS)
    monkeypatch.setattr(npy, "MAPPED_BYTES", 0)
    shard = npz.read_shard(tmp_path / "a.npz", None, True, "", Keys("images", "labels"))
    assert isinstance(shard.pixels.base, np.memmap) and np.array_equal(shard.pixels, PIXELS)


def test_file_names_tell_the_splits(tmp_path: Path) -> None:
    np.savez(tmp_path / "train-0.npz", images=PIXELS, labels=LABELS)
    np.savez(tmp_path / "test-0.npz", images=PIXELS[:2], labels=LABELS[1:3])
    assert len(open_source(tmp_path, split="train", classes=4)) == 6
    assert len(open_source(tmp_path, split="test", classes=4)) == 2


def test_floats_are_scaled_by_their_stated_range(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=PIXELS.astype(np.float32) / 255 * 4 - 1)
    source = open_source(tmp_path, value_range=(-1.0, 3.0))
    assert np.array_equal(source.read(range(6))[0].numpy().transpose(0, 2, 3, 1), PIXELS)


FLOATS = PIXELS / 255


@pytest.mark.parametrize(
    ("arrays", "value_range", "word"),
    [
        ({"images": FLOATS}, None, "--value-range LOW,HIGH"),
        (
            {"images": np.where(PIXELS == PIXELS[0, 0, 0, 0], np.nan, FLOATS)},
            (0, 1),
            "number, got nan",
        ),
        ({"images": FLOATS * 2}, (0, 1), r"value_range \[0, 1\]"),
        ({"images": FLOATS}, (1, 0), "LOW < HIGH"),
        ({"images": PIXELS}, (0, 255), "drop --value-range"),
        ({"images": PIXELS.astype(np.uint16)}, None, "got uint16"),
        ({"images": PIXELS.astype(np.int64)}, None, "got int64"),
        ({"images": PIXELS.transpose(0, 3, 1, 2)}, None, "channels last"),
        ({"images": np.zeros((2, 5, 4, 4), np.uint8)}, None, "alpha"),
        ({"images": PIXELS[0, 0]}, None, "got shape"),
        ({"images": PIXELS[:0]}, None, "at least one record"),
        ({"images": PIXELS, "labels": LABELS[:5]}, None, "6 images and 5 labels"),
        (
            {"images": PIXELS, "labels": LABELS - 1},
            None,
            r"a\.npz: labels must be in 0\.\.3, got -1 at record 1: .*--classes=-1,1",
        ),
        ({"images": PIXELS, "labels": LABELS * 1.0}, None, "whole numbers"),
        ({"images": PIXELS, "labels": LABELS + 2**40}, None, "in 0..3, got 1099511627779"),
        (
            {"images": PIXELS, "labels": LABELS, "class_names": np.array(["a", "b"])},
            None,
            "in 0..1, got 3 at record 0",
        ),
        ({"images": PIXELS, "class_names": np.array([b"a"])}, None, "list of text"),
        ({"pictures": PIXELS}, None, "images or arr_0"),
        ({"images": PIXELS, "masks": LABELS}, None, "masks"),
        ({"images": np.array([None, PIXELS], dtype=object)}, None, "never loaded"),
    ],
)
def test_a_bad_archive_is_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], value_range: object, word: str
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    declared = None if "class_names" in arrays or "labels" not in arrays else 4
    with pytest.raises(ValueError, match=word):
        open_source(tmp_path, value_range=value_range, classes=declared)


def test_a_header_that_promises_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO(npy.npy_header((2**20, 1024, 1024), "|u1") + bytes(100))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", buffer.getvalue())
    with pytest.raises(ValueError, match="header promises, got 100"):
        open_source(tmp_path)


@pytest.mark.parametrize("mapped_bytes", [0, 2**30])
def test_a_flipped_bit_is_noticed_held_or_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mapped_bytes: int
) -> None:
    monkeypatch.setattr(npy, "MAPPED_BYTES", mapped_bytes)
    path = tmp_path / "a.npz"
    np.savez(path, images=np.zeros((9, 100, 100), np.uint8))
    data = bytearray(path.read_bytes())
    data[80_000] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="a.npz is damaged"):
        open_source(path)


def test_a_cut_archive_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=PIXELS)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match="a.npz is damaged or truncated"):
        open_source(path)


def test_an_encrypted_archive_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=PIXELS)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag alone is enough
    data[6] |= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="a.npz is damaged.*(encrypted|password)"):
        open_source(path)


@pytest.mark.parametrize(
    ("second", "word"),
    [
        ({"images": PIXELS}, "labels"),
        ({"images": PIXELS[:, :4], "labels": LABELS}, "image shape"),
        (
            {"images": PIXELS, "labels": LABELS, "class_names": np.array(list("abcd"))},
            "class names",
        ),
    ],
)
def test_shards_that_disagree_are_refused(
    tmp_path: Path, second: dict[str, np.ndarray], word: str
) -> None:
    np.savez(tmp_path / "a.npz", images=PIXELS, labels=LABELS)
    np.savez(tmp_path / "b.npz", **second)
    with pytest.raises(ValueError, match=word):
        open_source(tmp_path, classes=4)


def by_split(style: str) -> dict[str, np.ndarray]:
    parts = {"train": (PIXELS, LABELS), "test": (PIXELS[:2], LABELS[:2])}
    return {
        style.format(split=split, side=side): array
        for split, pair in parts.items()
        for side, array in zip(STYLES[style], pair, strict=True)
    }


STYLES = {
    "{side}_{split}": ("x", "y"),
    "{split}_{side}": ("images", "labels"),
    "{side}{split}": ("X_", "Y_"),
    "{split}.{side}": ("data", "targets"),
    "{side}_{split}_0": ("img", "label"),
}


@pytest.mark.parametrize("style", STYLES)
def test_arrays_of_several_splits_are_read_by_split(tmp_path: Path, style: str) -> None:
    np.savez(tmp_path / "a.npz", **by_split(style))
    for place in (tmp_path, tmp_path / "a.npz"):
        read = [open_source(place, split=s, classes=4) for s in ("train", "test", "all")]
        assert [len(source) for source in read] == [6, 2, 8]
        assert read[0].read(range(6))[1].tolist() == LABELS.tolist()
    with pytest.raises(ValueError, match="--classes N"):
        open_source(tmp_path)


def test_medmnist_has_a_third_split_and_labels_in_a_column(tmp_path: Path) -> None:
    sizes = {"train": 6, "val": 3, "test": 2}
    arrays = {f"{k}_images": PIXELS[:n] for k, n in sizes.items()}
    arrays |= {f"{k}_labels": LABELS[:n, None].astype(np.uint8) for k, n in sizes.items()}
    np.savez(tmp_path / "pathmnist.npz", **arrays)
    read = [open_source(tmp_path, split=s, classes=4) for s in ("train", "test", "all")]
    assert [len(source) for source in read] == [6, 2, 11]
    del arrays["test_images"], arrays["test_labels"]
    np.savez(tmp_path / "pathmnist.npz", **arrays)
    assert len(open_source(tmp_path, split="test", classes=4)) == 3


def test_a_split_that_an_archive_does_not_hold_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", train_images=PIXELS)
    assert len(open_source(tmp_path, split="train")) == 6
    with pytest.raises(ValueError, match="no test split, only train"):
        open_source(tmp_path, split="test")


def test_files_and_arrays_that_name_other_splits_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", x_train=PIXELS)
    assert len(open_source(tmp_path, split="train")) == 6
    np.savez(tmp_path / "test.npz", x_train=PIXELS[:5])
    for split in ("train", "test", "all"):
        with pytest.raises(ValueError, match=r"test.npz is named for test and holds \['train'\]"):
            open_source(tmp_path, split=split)


@pytest.mark.parametrize(
    ("arrays", "word"),
    [
        ({"x_train": PIXELS, "images": PIXELS}, "images is of no split, beside arrays of train"),
        ({"x_train": PIXELS, "x_test": PIXELS, "y_test": LABELS}, "labels for every split"),
        ({"x_train": PIXELS, "train_images": PIXELS}, "must hold images or arr_0"),
        ({"y_train": LABELS}, "must hold images or arr_0"),
        ({"x_train": PIXELS, "masks_train": LABELS}, "x_train.*numpy.savez"),
        ({"x_train_val": PIXELS}, "must hold images or arr_0"),
        ({"train": PIXELS, "test": PIXELS}, "must hold images or arr_0"),
        ({"images": PIXELS, "labels": np.eye(4)[LABELS]}, r"\(6, 4\).*argmax\(1\)"),
        ({"images": PIXELS[0]}, "one picture or a set of narrow"),
        ({"images": PIXELS[0][..., :1]}, "one picture or a set of narrow"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], word: str
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=word):
        open_source(tmp_path, classes=4 if any("y" in k or "labels" in k for k in arrays) else None)


def test_labels_with_gaps_are_named_by_value(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=PIXELS, labels=LABELS * 333)
    source = open_source(tmp_path, classes=["0", "333", "666", "999"])
    assert source.read(range(6))[1].tolist() == LABELS.tolist()
    with pytest.raises(ValueError, match="one of the classes 0, 333, got '999' at record 0"):
        open_source(tmp_path, classes=["0", "333"])
    with pytest.warns(UserWarning, match="996 of the 1000 declared classes have no record"):
        assert len(open_source(tmp_path, classes=1000).class_names) == 1000


def test_class_names_in_an_archive_are_by_position_even_if_they_are_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=PIXELS, labels=LABELS, class_names=np.array(list("3210")))
    assert open_source(tmp_path).read([0])[1].tolist() == [3]


def test_text_labels_are_names_of_declared_classes(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=PIXELS, labels=np.array(list("abcd"))[LABELS])
    assert open_source(tmp_path, classes=list("dcba")).read([0, 1])[1].tolist() == [0, 3]
    with pytest.raises(ValueError, match="got 'd'.*--classes NAME,NAME"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("images", "value_range", "told"),
    [
        (PIXELS / 255, (0, 255), True),
        (PIXELS / 255, (-1, 1), True),
        (PIXELS / 255, (0, 1), False),
        (PIXELS % 17, None, True),
        (PIXELS % 2, None, True),
        (PIXELS, None, False),
    ],
)
def test_pixels_in_a_small_part_of_their_range_are_told(
    tmp_path: Path, images: np.ndarray, value_range: tuple[float, float] | None, told: bool
) -> None:
    np.savez(tmp_path / "a.npz", images=images)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        open_source(tmp_path, value_range=value_range)
    assert [("the pixels lie in" in str(w.message)) for w in found] == [True] * told


def test_three_grey_pictures_without_labels_may_be_one_in_colour(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=PIXELS[:3, ..., 0])
    with pytest.warns(UserWarning, match="three grey pictures: if it is one in colour"):
        assert len(open_source(tmp_path)) == 3
