from __future__ import annotations

import io
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
        ({"images": PIXELS}, (0, 255), "leave --value-range out"),
        ({"images": PIXELS.astype(np.uint16)}, None, "got uint16"),
        ({"images": PIXELS.astype(np.int64)}, None, "got int64"),
        ({"images": PIXELS.transpose(0, 3, 1, 2)}, None, "channels last"),
        ({"images": np.zeros((2, 5, 4, 4), np.uint8)}, None, "alpha"),
        ({"images": PIXELS[0, 0]}, None, "got shape"),
        ({"images": PIXELS[:0]}, None, "at least one record"),
        ({"images": PIXELS, "labels": LABELS[:5]}, None, "6 images and 5 labels"),
        ({"images": PIXELS, "labels": LABELS - 1}, None, "at least 0, got -1 at record 1"),
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
