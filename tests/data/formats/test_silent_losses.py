"""Data that used to be dropped, doubled, relabelled or held out wrongly without a word."""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dpgen.data.formats.pictures import encode_png
from dpgen.data.inspection import inspect_images
from dpgen.data.sources import open_source

PIXELS = np.arange(6 * 6 * 6, dtype=np.uint8).reshape(6, 6, 6)
PNGS = [encode_png(one[..., None]) for one in PIXELS]


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., None]:
    """Writes files below the folder of the test: pictures, or the given bytes."""

    def write(*names: str, content: bytes | None = None) -> None:
        for i, name in enumerate(names):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(PNGS[i % 6] if content is None else content)

    return write


def tar(path: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def pairs(suffix: str, of: Callable[[int], bytes], folder: str = "") -> list[tuple[str, bytes]]:
    own = [(f"{folder}{i}.{suffix}", of(i)) for i in range(6)]
    return [one for i in range(6) for one in ((f"{folder}{i}.png", PNGS[i]), own[i])]


def table(header: str, *rows: str) -> bytes:
    return "\n".join([header, *rows, ""]).encode()


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("b.h5", b"\x89HDF\r\n\x1a\n", r"b\.h5 is HDF5, which is not read: .*numpy\.savez"),
        ("b.tar.bz2", b"BZh91AY", "is packed with bzip2, .*: unpack it"),
        ("data_batch_1", b"\x80\x02}q\x01U", "is a pickle"),
        ("x.tfrecord-00000-of-00001", bytes(9), "is a TFRecord"),
        ("b.npz.part", b"\0\1", "a download that was not finished"),
        ("b.dat", b"\0\1\2", "lies beside npz data, and is of no kind that is read"),
        ("b.npz", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("b.npz", b"<!DOCTYPE html><title>404", "is a web page"),
    ],
)
def test_files_of_another_kind_beside_data_are_refused(
    name: str, content: bytes, why: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "a.npz", images=PIXELS)
    (tmp_path / "README.md").write_text("what it is")
    assert len(open_source(tmp_path)) == 6
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=why):
        open_source(tmp_path)


@pytest.mark.parametrize("name", ["1.png~", "1.bak", "1.png.part", "1.png.old2"])
def test_a_backup_of_a_picture_is_no_second_record(
    name: str, put: Callable[..., None], tmp_path: Path
) -> None:
    put("a/1.png", f"a/{name}", "b/2.png")
    with pytest.raises(ValueError, match="is named as a backup of another file"):
        open_source(tmp_path)


@pytest.mark.parametrize("link", [os.link, lambda one, two: os.symlink("../train/0.png", two)])
def test_one_file_in_two_splits_is_refused_and_twice_in_one_is_told(
    link: Callable[[Path, Path], None], put: Callable[..., None], tmp_path: Path
) -> None:
    put("train/0.png", "train/1.png", "test/2.png")
    link(tmp_path / "train/0.png", tmp_path / "test/0.png")
    with pytest.raises(ValueError, match=r"train/0\.png are one file .* must not be learned from"):
        open_source(tmp_path, split="train")
    (tmp_path / "test/0.png").rename(tmp_path / "train/9.png")
    with pytest.warns(match="is read twice; there are 1 of these"):
        assert len(open_source(tmp_path, split="train")) == 3


def test_a_copy_of_an_archive_is_refused_and_another_of_its_size_is_not(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=PIXELS)
    np.savez(tmp_path / "b.npz", images=PIXELS + 1)
    assert len(open_source(tmp_path)) == 12
    (tmp_path / "a (1).npz").write_bytes((tmp_path / "a.npz").read_bytes())
    with pytest.raises(ValueError, match=r"a\.npz is a copy of .*a \(1\)\.npz.*count twice"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("a-00000-of-00003.npz", "a-00002-of-00003.npz"), "a-#-of-00003.npz there are 2 of 3"),
        (("a-0.npz", "a-1.npz", "a-3.npz"), "a-#.npz there are 0 to 3 without 2"),
        (("a-00000-of-00002.npz", "a-00001-of-00002.npz"), None),
        (("a-3.npz", "a-4.npz", "b-7.npz"), None),
    ],
)
def test_files_that_their_names_promise_and_are_not_there_are_told(
    names: tuple[str, ...], told: str | None, tmp_path: Path
) -> None:
    for i, name in enumerate(names):
        np.savez(tmp_path / name, images=PIXELS + i)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        open_source(tmp_path)
    assert [told in str(one.message) for one in found if told] == ([True] if told else [])


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["a/1.jpg", "a/1.png", "a/2.jpg", "a/2.png"], "have one name, and so have 1 more pairs"),
        (["t1/x_3.png", "t1/x_7.png", "t1/y.png", "t2/x_3.png", "t2/x_7.png", "t2/y.png"],
         "look like the same pictures in several versions.*--classes t1,t2"),
        (["images/1.png", "lesion_masks/1.png"], "look like pictures and their masks"),
        (["LR/1.png", "HR/1.png"], "the same pictures in several sizes"),
        (["input/1.png", "target/2.png"], "pictures and what belongs to them"),
        (["seen/1.png", "unseen/2.png"], "look like splits of one set"),
        (["untitled folder/1.png", "untitled folder 2/2.png"], "folders without a name"),
        (["cat/1.png", "dog/2.png", "trash/3.png"], "trash looks like pictures that were set"),
        (["golden retriever/1.png", "golden_retriever/2.png"], "blanks, hyphens or invisible"),
        (["a/1.png", "a\u200b/2.png"], "invisible signs"),
    ],
    ids=lambda value: value[1] if isinstance(value, list) else None,
)  # fmt: skip
def test_pictures_that_belong_to_others_and_folders_that_are_no_classes_are_refused(
    names: list[str], why: str, put: Callable[..., None], tmp_path: Path
) -> None:
    put(*names)
    with pytest.raises(ValueError, match=why):
        open_source(tmp_path)


def test_names_that_count_alike_are_those_of_classes(
    put: Callable[..., None], tmp_path: Path
) -> None:
    put(*(f"{c}/{name}{i}.png" for c in "ab" for name in ("", "n_") for i in (4, 5, 6)))
    put("a/1.jpg")  # a number that is taken once more is chance
    assert open_source(tmp_path).class_names == ("a", "b")


def test_a_folder_that_was_set_aside_may_be_declared_a_class(
    put: Callable[..., None], tmp_path: Path
) -> None:
    put("cat/1.png", "trash/3.png")
    assert open_source(tmp_path, classes=["cat", "trash"]).class_names == ("cat", "trash")


@pytest.mark.parametrize(
    ("first", "second"),
    [("trn", "tst"), ("训练集", "测试集"), ("Trainingsdaten", "Testdaten"), ("train", "hold-out"),
     ("entrenamiento", "prueba")],
)  # fmt: skip
def test_splits_by_other_words_are_splits(
    first: str, second: str, put: Callable[..., None], tmp_path: Path
) -> None:
    put(f"{first}/1.png", f"{first}/2.png", f"{second}/3.png")
    assert len(open_source(tmp_path, split="train")) == 2
    assert len(open_source(tmp_path, split="test")) == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("who.txt", b"0.png 7\n1.png 8\n"),
        ("who.txt", b"0 7\n1 8\n2 8\n"),
        ("who.json", b'{"0.png": "a", "1.png": "b"}'),
        ("identity_x.txt", b"what nobody reads"),
        ("0.txt", b"0 0.5 0.5 0.1 0.1\n1 .2 .2 .1 .1\n"),
    ],
)
def test_texts_that_may_hold_labels_are_refused(
    name: str, content: bytes, put: Callable[..., None], tmp_path: Path
) -> None:
    put("0.png", "1.png", "2.png", content=None)
    put("notes.txt", content=b"scanned in 2019 with 0.png as a test\n1 of 3\n")
    assert len(open_source(tmp_path)) == 3
    put(name, content=content)
    with pytest.raises(ValueError, match=f"{name} lies beside"):
        open_source(tmp_path)


def test_annotations_beside_splits_without_classes_are_refused(
    put: Callable[..., None], tmp_path: Path
) -> None:
    put("train2017/0.png", "val2017/1.png")
    put("annotations/instances_train2017.json", content=b"{}")
    with pytest.raises(ValueError, match=r"instances_train2017\.json lies beside pictures"):
        open_source(tmp_path, split="train")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (table("file_name,label,phase", "0.png,0,train", "1.png,1,val"), "'phase' holds the words"),
        (table("file_name,label,split,subset", "0.png,0,train,test", "1.png,1,test,train"),
         "one column of splits"),
        (table("file_name,label", "a/0.png,1", "b/1.png,0"), "class 1, 'b', and its folder"),
    ],
)  # fmt: skip
def test_a_list_that_contradicts_itself_or_the_folders_is_refused(
    content: bytes, why: str, put: Callable[..., None], tmp_path: Path
) -> None:
    put(*(("a/0.png", "b/1.png") if b"a/" in content else ("0.png", "1.png")))
    put("metadata.csv", content=content)
    with pytest.raises(ValueError, match=why):
        open_source(tmp_path, classes=["a", "b"])


def test_of_two_columns_of_labels_and_two_lists_it_is_told_which_is_read(
    put: Callable[..., None], tmp_path: Path
) -> None:
    put("0.png", "1.png")
    put("metadata.csv", content=table("file_name,label,class", "0.png,0,1", "1.png,1,0"))
    put("labels.csv", content=table("file_name,label", "0.png,1", "1.png,0"))
    notes = " ".join(inspect_images(tmp_path, classes=2)[0].notes)
    assert "labels are read from 'label', and class passed over" in notes
    assert "labels.csv is not read, as metadata.csv lists the pictures" in notes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = open_source(tmp_path, classes=2, label_column="class")
    assert source.read([0, 1])[1].tolist() == [1, 0]


def test_a_second_list_further_down_is_refused(put: Callable[..., None], tmp_path: Path) -> None:
    put("x/0.png", "x/1.png")
    put("metadata.csv", content=table("file_name,label", "x/0.png,0", "x/1.png,1"))
    put("x/metadata.csv", content=table("file_name,label", "0.png,1", "1.png,0"))
    with pytest.raises(ValueError, match=r"x/metadata\.csv would not be read"):
        open_source(tmp_path, classes=2)


def test_a_name_is_one_in_both_spellings_of_unicode(
    put: Callable[..., None], tmp_path: Path
) -> None:
    two = unicodedata.normalize("NFD", "é")
    put(f"{two}0.png", f"{two}1.png")
    put("metadata.csv", content=table("file_name,label", "é0.png,é", f"é1.png,{two}"))
    assert open_source(tmp_path, classes=["é"]).read([0, 1])[1].tolist() == [0, 0]


def test_hidden_members_of_a_tar_are_no_records(tmp_path: Path) -> None:
    names = (".ipynb_checkpoints/9.png", "__MACOSX/9.png", "Thumbs.db")
    more = [(name, PNGS[0]) for name in names]
    tar(tmp_path / "a.tar", pairs("cls", lambda i: b"%d" % (i % 2)) + more)
    found, _ = inspect_images(tmp_path, classes=2)
    assert found.n_records == 6
    assert sum(why == "hidden" for why in found.passed_over.values()) == 2  # kinds of files


@pytest.mark.parametrize(
    ("members", "why"),
    [
        (pairs("json", lambda i: b'{"label": 1}' if i else b'{"class": 1}'), "under one key"),
        (pairs("json", lambda i: json.dumps({"label": 0, "split": i}).encode()), "its JSON says 0"),
        (pairs("json", lambda i: b'{"label": 0, "is_test": 1}'), "'is_test' may tell the splits"),
        (pairs("json", lambda i: b'{"label": 0, "split": "test"}'), "named for train, and the"),
        (pairs("cls", lambda i: b"b", "a/"), "is labelled 'b', and its folder says 'a'"),
        (pairs("cls", lambda i: b"1", "a/"), "is labelled 1, and its folder says 'a'"),
        (pairs("txt", lambda i: b"0 0.5 0.5 0.1 0.1"), "got '0 0.5 0.5 0.1 0.1'"),
        ([*pairs("caption", lambda i: b"x"), ("who.txt", b"0.png a\n1.png b\n")], "who.txt may"),
        ([("0.png", PNGS[0]), ("0_mask.png", PNGS[1])], "looks like a mask"),
    ],
)
def test_a_tar_that_contradicts_itself_is_refused(
    members: list[tuple[str, bytes]], why: str, tmp_path: Path
) -> None:
    tar(tmp_path / "train.tar", members)
    with pytest.raises(ValueError, match=why):
        open_source(tmp_path, split="train", classes=["a", "b"])


def _parquet(path: Path, n: int = 6, **columns: object) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{"bytes": PNGS[i], "path": None} for i in range(n)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    given = {name: pa.array(values) for name, values in columns.items()}
    made = pa.table({"image": pa.array(rows, kind), **given})
    parquet.write_table(
        made, path, compression="NONE", use_dictionary=False, write_page_checksum=True
    )


@pytest.mark.parametrize(
    ("name", "columns", "why"),
    [
        ("a", {"phase": ["train"] * 3 + ["val"] * 3}, "the column 'phase' holds the words"),
        ("a", {"Usage": ["Training"] * 3 + ["PublicTest"] * 3}, "'Usage' holds the words"),
        ("train", {"split": ["train"] * 5 + ["test"]}, "split says 'test' at record 5"),
    ],
)
def test_splits_in_columns_of_parquet_are_not_passed_over(
    name: str, columns: dict[str, list[str]], why: str, tmp_path: Path
) -> None:
    _parquet(tmp_path / f"{name}.parquet", label=[0, 1] * 3, **columns)
    assert len(open_source(tmp_path, split="all", classes=2)) == 6
    with pytest.raises(ValueError, match=why):
        open_source(tmp_path, split="train", classes=2)


def test_a_changed_label_in_a_page_with_a_checksum_is_noticed(tmp_path: Path) -> None:
    _parquet(tmp_path / "a.parquet", label=[0, 1, 2, 0, 1, 2])
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[data.index(struct.pack("<3q", 0, 1, 2))] = 2
    assert open_source(tmp_path, classes=3).read([0])[1].tolist() == [0]
    (tmp_path / "a.parquet").write_bytes(bytes(data))
    with pytest.raises(ValueError, match="damaged or truncated: .*(crc|checksum|CRC)"):
        open_source(tmp_path, classes=3)


def test_a_table_without_rows_is_refused_as_empty(tmp_path: Path) -> None:
    _parquet(tmp_path / "a.parquet", n=0, label=[])
    with pytest.raises(ValueError, match="must hold at least one record"):
        open_source(tmp_path, classes=2)


def test_columns_of_parquet_that_are_no_pictures_are_named_with_their_kinds(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"image": [[0, 1]] * 6}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"got image: list<.*int64>: save it so, as pictures"):
        open_source(tmp_path)


def test_an_array_whose_pictures_may_be_counted_by_the_last_axis_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=PIXELS[..., :5])
    with pytest.raises(ValueError, match=r"images\.transpose\(2, 0, 1\) if they are 5 pictures"):
        open_source(tmp_path)
    np.savez(tmp_path / "a.npz", images=PIXELS[..., :5, None])
    assert open_source(tmp_path).shape == (1, 6, 5)
    np.savez(tmp_path / "a.npz", images=np.zeros((8, 8, 3, 5), np.uint8))
    with pytest.raises(ValueError, match=r"transpose\(3, 0, 1, 2\)"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("value", "dtype", "value_range", "told"),
    [
        (3, np.uint8, None, "lie in 3..3 and black and white are 0 and 255"),
        (40, np.uint8, None, None),
        (4000, np.uint16, (0, 65535), "black and white are 0 and 65535"),
        (60000, np.uint16, (0, 4095), "black and white are 0 and 4095"),
    ],
)
def test_pictures_in_a_small_part_of_their_range_are_told(
    value: int, dtype: type, value_range: tuple[int, int] | None, told: str | None,
    put: Callable[..., None], tmp_path: Path,
) -> None:  # fmt: skip
    buffer = io.BytesIO()
    Image.fromarray(np.full((6, 6), value, dtype)).save(buffer, "PNG")
    put("0.png", "1.png", content=buffer.getvalue())
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        open_source(tmp_path, value_range=value_range)
    assert [told in str(one.message) for one in found if told] == ([True] if told else [])
    assert told or not found


def test_inspect_says_how_many_held_out_pictures_are_learned_from(
    put: Callable[..., None], tmp_path: Path
) -> None:
    put("train/a/0.png", "train/a/1.png", "train/b/2.png", "train/b/3.png")
    put("val/a/9.png", "val/b/0.png", content=PNGS[5])
    assert "held out" not in "".join(inspect_images(tmp_path, split="train")[0].notes)
    put("val/b/0.png", content=PNGS[2])
    for split, other in (("train", "validation"), ("validation", "train")):
        notes = inspect_images(tmp_path, split=split)[0].notes
        assert f"of the split {other} with the very pixels of one of {split}: 1; what" in notes[-1]
    assert "held out" not in "".join(inspect_images(tmp_path, split="all")[0].notes)


def test_tensors_and_masked_arrays_are_read_as_they_are_meant_or_refused() -> None:
    grey = torch.tensor(PIXELS)
    half = open_source(grey.bfloat16(), value_range=(0, 255))
    assert torch.equal(half.read([0])[0][0, 0], grey[0])
    with pytest.raises(ValueError, match=r"images\.transpose\(2, 0, 1\) if they are 5"):
        open_source(grey[..., :5])
    assert len(open_source(grey[:, None, :, :5])) == 6
    with pytest.raises(ValueError, match=r"got masked pixels.*images\.filled\(0\)"):
        open_source(np.ma.masked_less(PIXELS, 5))
