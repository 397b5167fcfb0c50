from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from dpgen.data.sources import open_source

PIXELS = np.random.default_rng(1).integers(0, 256, (6, 5, 4), np.uint8)
LABELS = np.array([3, 0, 1, 1, 2, 0], np.uint8)


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    head = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.tobytes()


def write(folder: Path, prefix: str, pixels: bytes, labels: bytes, packed: bool = False) -> None:
    for name, data in (("images-idx3", pixels), ("labels-idx1", labels)):
        path = folder / f"{prefix}-{name}-ubyte{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(data) if packed else data)


@pytest.mark.parametrize("packed", [False, True])
def test_records_and_splits_are_those_of_the_files(tmp_path: Path, packed: bool) -> None:
    write(tmp_path, "train", idx(PIXELS), idx(LABELS), packed)
    write(tmp_path, "t10k", idx(PIXELS[:2]), idx(LABELS[2:4]), packed)
    train, test = (open_source(tmp_path, split=s, classes=4) for s in ("train", "test"))
    pixels, labels = train.read([4, 0])
    assert np.array_equal(pixels.numpy()[:, 0], PIXELS[[4, 0]])
    assert labels.tolist() == [2, 3]
    assert (len(train), len(test), len(open_source(tmp_path, classes=4))) == (6, 2, 8)


def test_a_label_means_the_same_in_both_splits(tmp_path: Path) -> None:
    write(tmp_path, "train", idx(PIXELS), idx(LABELS))
    write(tmp_path, "t10k", idx(PIXELS[:2]), idx(np.array([0, 0], np.uint8)))
    assert open_source(tmp_path, split="test", classes=4).class_names == ("0", "1", "2", "3")
    named = open_source(tmp_path, split="test", classes=["a", "b", "c", "d"])
    assert named.class_names == ("a", "b", "c", "d") and named.classes_declared


def test_an_images_file_finds_its_labels_beside_it(tmp_path: Path) -> None:
    write(tmp_path, "train", idx(PIXELS), idx(LABELS))
    write(tmp_path, "t10k", idx(PIXELS[:2]), idx(LABELS[:2]))
    alone = open_source(tmp_path / "t10k-images-idx3-ubyte", split="train", classes=4)
    assert len(alone) == 2


@pytest.mark.parametrize(
    ("pixels", "labels", "word"),
    [
        (idx(PIXELS), idx(LABELS[:5]), "6 images and 5 labels"),
        (idx(PIXELS)[:-1], idx(LABELS), "120 bytes its header promises, got only 119"),
        (idx(PIXELS) + b"x", idx(LABELS), "header promises, got more"),
        (idx(PIXELS)[:9], idx(LABELS), "truncated within its header"),
        (idx(PIXELS, kind=13), idx(LABELS), "unsigned bytes .IDX type 8., got type 13"),
        (idx(PIXELS[:0]), idx(LABELS[:0]), "at least one record"),
        (idx(PIXELS[0]), idx(LABELS), "got shape"),
        (bytes([0, 0, 8, 3]) + b"\xff" * 12, idx(LABELS), "memory"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_bad_file_is_refused(
    tmp_path: Path, pixels: bytes, labels: bytes, word: str, packed: bool
) -> None:
    write(tmp_path, "train", pixels, labels, packed)
    with pytest.raises(ValueError, match=word):
        open_source(tmp_path, classes=4)


def test_a_cut_gzip_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path, "train", idx(PIXELS), idx(LABELS), packed=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(ValueError, match="train-images.*damaged or truncated"):
        open_source(tmp_path)


@pytest.mark.parametrize("gone", ["images-idx3", "labels-idx1"])
def test_a_missing_half_is_refused(tmp_path: Path, gone: str) -> None:
    write(tmp_path, "train", idx(PIXELS), idx(LABELS))
    (tmp_path / f"train-{gone}-ubyte").unlink()
    with pytest.raises(ValueError, match="needs its (images|labels) beside it"):
        open_source(tmp_path)


def test_the_same_file_packed_and_unpacked_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "train", idx(PIXELS), idx(LABELS))
    write(tmp_path, "train", idx(PIXELS), idx(LABELS), packed=True)
    with pytest.raises(ValueError, match="same file twice"):
        open_source(tmp_path)


def test_two_sets_in_one_folder_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "letters-train", idx(PIXELS), idx(LABELS))
    write(tmp_path, "digits-train", idx(PIXELS), idx(LABELS))
    with pytest.raises(ValueError, match="one images file per split"):
        open_source(tmp_path)
