"""Data as they are found: layouts of public collections, and what file managers leave in them."""

from __future__ import annotations

import csv
import gzip
import io
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dpgen.data.formats.pictures import encode_png
from dpgen.data.inspection import inspect_images
from dpgen.data.sources import open_source


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., None]:
    """Writes files below the folder of the test: pictures, each of another grey, or given bytes."""

    def write(*names: str, content: bytes | None = None) -> None:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            value = sum(name.encode()) % 251
            path.write_bytes(content or encode_png(np.full((6, 6, 1), value, np.uint8)))

    return write


def table(header: str, *rows: str) -> bytes:
    return "\n".join([header, *rows, ""]).encode()


def test_a_table_beside_folders_of_splits_is_refused(
    put: Callable[..., None], tmp_path: Path
) -> None:
    """Kaggle: train_images/, test_images/ and train.csv of id_code and diagnosis."""
    put(*(f"train_images/{i}.png" for i in range(3)), "test_images/9.png")
    put("train.csv", content=table("id_code,diagnosis", "0,1", "1,0", "2,1"))
    with pytest.raises(ValueError, match=r"train\.csv lies beside pictures.*name it metadata\.csv"):
        open_source(tmp_path, split="train")
    (tmp_path / "train.csv").rename(tmp_path / "train_images" / "metadata.csv")
    put("test_images/metadata.csv", content=table("id_code,diagnosis", "9,1"))
    source = open_source(tmp_path, split="train", classes=2)
    assert source.read(range(3))[1].tolist() == [1, 0, 1]


def test_splits_of_class_folders_may_have_a_table_beside_them(
    put: Callable[..., None], tmp_path: Path
) -> None:
    put(*(f"{split}/{c}/{split}{i}.png" for split in ("train", "val") for c in "ab" for i in "01"))
    put("LOC_val_solution.csv", content=table("ImageId,PredictionString", "0,n01"))
    assert open_source(tmp_path, split="train").class_names == ("a", "b")


@pytest.mark.parametrize("column", ["image_id", "id", "image"])
def test_a_list_may_name_pictures_without_their_suffix(
    column: str, put: Callable[..., None], tmp_path: Path
) -> None:
    put("ISIC_1.png", "ISIC_2.png", "x/ISIC_1.png")
    text = table(f"lesion_id,{column},dx", "a,ISIC_1,0", "a,ISIC_2.png,1", "b,x/ISIC_1,2")
    put("metadata.csv", content=text)
    source = open_source(tmp_path, classes=3, label_column="dx")
    assert source.read(range(3))[1].tolist() == [0, 1, 2]
    put("ISIC_1.jpg", content=encode_png(np.zeros((6, 6, 1), np.uint8)))
    with pytest.raises(ValueError, match=r"'ISIC_1' may be ISIC_1\.(jpg|png) or .*its suffix"):
        open_source(tmp_path, classes=3, label_column="dx")
    (tmp_path / "ISIC_1.jpg").unlink()
    put("metadata.csv", content=text + b"c,ISIC_1.png,2\n")
    with pytest.raises(ValueError, match=r"must list a picture once, it lists 'ISIC_1\.png' twice"):
        open_source(tmp_path, classes=3, label_column="dx")


@pytest.mark.parametrize("beside", ["masks", "Annotations", "labels"])
def test_pictures_and_their_masks_are_no_classes(
    beside: str, put: Callable[..., None], tmp_path: Path
) -> None:
    put(*(f"{folder}/{i}.png" for folder in ("images", beside) for i in range(3)))
    with pytest.raises(ValueError, match=f"images/ and {beside}/ look like .*point at .*images;"):
        open_source(tmp_path)
    assert len(open_source(tmp_path / "images")) == 3


def test_one_name_in_two_spellings_of_unicode_is_refused(
    put: Callable[..., None], tmp_path: Path
) -> None:
    for form in ("NFC", "NFD"):
        put(f"{unicodedata.normalize(form, 'Zürich')}/0.png", "b/0.png")  # type: ignore[arg-type]
    if len(list(tmp_path.iterdir())) < 3:
        pytest.skip("this file system has one spelling")
    with pytest.raises(ValueError, match="two class folders are called 'Zürich'"):
        open_source(tmp_path)


def test_what_file_managers_leave_is_passed_over(put: Callable[..., None], tmp_path: Path) -> None:
    put("a/0.png", "b/0.png")
    put("a/thumbs.db", "b/Desktop.ini", "a/.DS_Store", "b/._0.png", content=b"x")
    put("a/@eaDir/0.png/SYNOPHOTO_THUMB_S.png", "__MACOSX/a/0.png")
    found, _ = inspect_images(tmp_path)
    assert found.n_records == 2 and found.class_names == ("a", "b")
    assert set(found.passed_over.values()) == {"hidden"} and len(found.passed_over) == 6


def test_a_link_to_nothing_is_named(put: Callable[..., None], tmp_path: Path) -> None:
    put("a/0.png")
    (tmp_path / "a" / "1.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(ValueError, match=r"1\.png is a link to a file that is not there, '.*nowhe"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (table("file_name;label", "0.png;1"), "separated by commas, got the header 'file_name;lab"),
        (table("file_name\tlabel", "0.png\t1"), "separated by commas"),
        ("file_name,label\n0.png,Müller\n".encode("latin-1"), "text in UTF-8.*save it anew"),
        ("file_name,label\n0.png,a\n".encode("utf-16"), "text in UTF-8.*save it anew"),
    ],
    ids=["semicolons", "tabs", "latin-1", "utf-16"],
)
def test_a_list_in_another_form_of_text_is_told_how_to_save_it(
    content: bytes, why: str, put: Callable[..., None], tmp_path: Path
) -> None:
    put("0.png")
    put("metadata.csv", content=content)
    with pytest.raises(ValueError, match=why):
        open_source(tmp_path, classes=2)


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((3, 4, 4), np.uint8))
    return buffer.getvalue()


def _pixels() -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["label", "pixel0"], [1, 0]])
    return buffer.getvalue().encode()


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("x_train.npy", _npy(), r"x_train\.npy is one array.*numpy\.savez"),
        ("train.csv", _pixels(), r"holds no data.*got train\.csv.*numpy\.savez"),
        ("train.h5", b"\x89HDF\r\n\x1a\n", r"train\.h5 is HDF5, which is not read: .*numpy\.savez"),
        ("train_32x32.mat", b"MATLAB 5.0", r"train_32x32\.mat is a MATLAB file.*numpy\.savez"),
        ("data_batch_1", b"\x80\x04]", "holds no data.*got data_batch_1"),
        ("scan.nii.gz", gzip.compress(bytes(400)), r"scan\.nii\.gz is NIfTI, which is not read"),
        ("scan.nii.gz", b"\x1f\x8b\x01" + bytes(99), r"is NIfTI, .*: save its slices as"),
        ("scan.mha", b"ObjectType = Image", r"scan\.mha is a volume, .*: save its slices"),
    ],
    ids=["npy", "table of pixels", "hdf5", "matlab", "pickle", "nifti", "cut", "volume"],
)
def test_data_of_another_kind_are_refused_with_a_way_out(
    name: str, content: bytes, why: str, put: Callable[..., None], tmp_path: Path
) -> None:
    put(name, content=content)
    with pytest.raises(ValueError, match=why):
        open_source(tmp_path)


def test_inspect_says_where_the_same_picture_lies_twice(
    put: Callable[..., None], tmp_path: Path
) -> None:
    put("a/0.png", "b/1.png")
    assert inspect_images(tmp_path)[0].notes == ()
    put("a/x.png", "a/y.png", "b/x.png", content=encode_png(np.full((6, 6, 1), 3, np.uint8)))
    found, _ = inspect_images(tmp_path)
    assert found.n_records == 5
    (note,) = found.notes
    assert "an earlier one: 2, of these under another label: 1; each is read" in note


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["a/0.png", "a copy/0.png"], "look like a folder and its copy.*--classes 'a,a copy'"),
        (["a/0.png", "a (2)/0.png"], "look like a folder and its copy"),
        (["ill/1.png", "ill/1_mask.png", "well/2.png"], r"1_mask\.png looks like a mask.*move"),
        (["benign (1).png", "benign (1)_mask_1.png"], "looks like a mask"),
        (["ISIC_1.jpg", "ISIC_1_superpixels.png"], "looks like a mask"),
        (["Cat/0.png", "cat/1.png"], "'Cat' and 'cat' differ in capitals, blanks"),
        (["b1/x/0.png", "b2/x/0.png"], "point at .*b1 if .*, with what lies in the folders beside"),
        (["train/images/0.png", "train/masks/0.png", "test/images/1.png"], "point at .*train/imag"),
    ],
    ids=lambda value: value[1] if isinstance(value, list) else None,
)
def test_folders_and_pictures_that_are_no_classes_and_no_records_are_refused(
    names: list[str], why: str, put: Callable[..., None], tmp_path: Path
) -> None:
    put(*names)
    with pytest.raises(ValueError, match=why):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (table("image,MEL,NV", "0,1.0,0.0", "1,0.0,1.0"), "columns MEL, NV mark one class.*idxmax"),
        (table("file_name,label", "/data/0.png,1", "/data/1.png,0"), "cut the paths down"),
        (table("file_name,label", "C:\\me\\0.png,1", "C:\\me\\1.png,0"), "cut the paths down"),
        (table("file_name,label,is_train", "0.png,1,1", "1.png,0,0"), "'is_train' may tell the"),
        (table("file_name,label", "0.png,1", "1.png,"), "got '': correct it, or take picture and"),
    ],
    ids=["columns of classes", "absolute", "windows", "flag", "missing"],
)
def test_a_list_that_says_what_is_not_read_is_refused_with_a_way_out(
    content: bytes, why: str, put: Callable[..., None], tmp_path: Path
) -> None:
    put("0.png", "1.png")
    put("metadata.csv", content=content)
    with pytest.raises(ValueError, match=why):
        open_source(tmp_path, classes=2)


@pytest.mark.parametrize("name", ["train.txt", "test_split.json", "splits.txt", "labels.txt"])
def test_a_list_of_splits_beside_class_folders_is_refused(
    name: str, put: Callable[..., None], tmp_path: Path
) -> None:
    put("a/0.png", "b/1.png")
    put(name, content=b"a/0.png\n")
    with pytest.raises(ValueError, match=rf"{name} lies beside .*splits.*metadata\.csv.* split"):
        open_source(tmp_path)


def test_names_of_pictures_as_if_of_classes_are_told(
    put: Callable[..., None], tmp_path: Path
) -> None:
    put("cat.1.png", "cat.2.png", "dog.1.png")
    assert "begin" not in "".join(inspect_images(tmp_path)[0].notes)
    put("dog.2.png")
    found, _ = inspect_images(tmp_path)
    assert found.class_names == ("all",)
    assert "names begin with cat, dog: if these are classes" in found.notes[0]


def test_what_a_list_in_another_case_says_is_read_and_not_passed_over(
    put: Callable[..., None], tmp_path: Path
) -> None:
    put("0.png", "1.png")
    put("metadata.csv", content=b"\xef\xbb\xbf" + table("Filename,Class", "0.png,b", "1.png,a"))
    found, _ = inspect_images(tmp_path, classes=["a", "b"])
    assert found.class_counts == (1, 1) and found.passed_over == {}
