"""No file among pictures is passed over in silence, unless the list of such files has it."""

from __future__ import annotations

import io
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dpgen.data.formats.picture_files import PASSED_OVER, READ, UNREAD, picture_format
from dpgen.data.formats.pictures import decode_picture, encode_png
from dpgen.data.sources import open_source

PNG = encode_png(np.full((6, 6, 1), 7, np.uint8))
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)
DICOM = bytes(128) + b"DICM" + bytes(200)

# By file name: content, and the words that the refusal must hold.
LOST = {
    "IMG_1.HEIC": (HEIC, "is HEIC, which is not read"),
    "renamed": (HEIC, "is HEIC, which is not read"),
    "renamed.jpg": (HEIC, "is HEIC, which is not read"),
    "1.avif": (HEIC.replace(b"heic", b"avif"), "is AVIF"),
    "1.dcm": (DICOM, "1.dcm"),
    "no suffix": (DICOM, "no suffix"),
    "1.pgm": (b"P5 6 6 100\n" + bytes(36), "255 as its largest value"),
    "1.jp2": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(200), "is JPEG 2000"),
    "1.jxl": (b"\xff\x0a" + bytes(200), "is JPEG XL"),
    "1.dng": (b"II*\0" + bytes(200), "is camera raw"),
    "1.NEF": (b"MM\0*" + bytes(200), "is camera raw"),
    "slide.svs": (b"II*\0" + bytes(200), "is a microscope's or scanner's slide"),
    "1.nii.gz": (zlib.compress(bytes(400), wbits=31), "is NIfTI, which is not read"),
    "1.tga": (bytes(200), "is an old format"),
    "1.svg": (b"<svg/>", "is a drawing"),
    "1.mp4": (b"\0\0\0\x18ftypisom" + bytes(200), "is a film"),
    "1.pdf": (b"%PDF-1.7", "is a document"),
    "1.webp": (b"RIFF....WEBPVP8 ", "1.webp is damaged or truncated WebP"),
    "1.tif": (b"", "1.tif is empty"),
    "1.bin": (b"what is this?", "lies among pictures and is none that is read"),
    "record": (b"", "lies among pictures and is none that is read"),
}


@pytest.mark.parametrize("name", LOST)
@pytest.mark.parametrize("place", ["", "beside/", "train/", "beside train/"])
def test_a_record_is_not_lost_from_a_folder(tmp_path: Path, place: str, name: str) -> None:
    """In a flat folder; beside class folders; in a split of pictures without classes; beside it."""
    inner = {"": ["."], "beside/": ["a"]}.get(place, ["train", "test"])
    for i in range(3):
        for folder in inner:
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{i}.png").write_bytes(PNG)
    content, words = LOST[name]
    target = tmp_path / ("train" if place == "train/" else ".") / name
    target.write_bytes(content)
    with pytest.raises(ValueError, match=name) as error:
        open_source(tmp_path)
    if place == "":
        assert words in str(error.value)


@pytest.mark.parametrize("name", LOST)
def test_a_record_is_not_lost_from_a_class_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/0.png").write_bytes(PNG)
    (tmp_path / "a" / name).write_bytes(LOST[name][0])
    with pytest.raises(ValueError, match=name):
        open_source(tmp_path)


@pytest.mark.parametrize("name", [name for name in LOST if "." in name])
@pytest.mark.parametrize("labelled", [True, False])
def test_a_record_is_not_lost_from_a_shard(tmp_path: Path, labelled: bool, name: str) -> None:
    members = {"0.png": PNG} | ({"0.cls": b"0"} if labelled else {})
    members["x" + name] = LOST[name][0]
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for member, content in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    with pytest.raises(ValueError, match=f"a.tar: x{name.split('.')[0]}"):
        open_source(tmp_path, classes=1 if labelled else None)


@pytest.mark.parametrize("name", ["a.HEIC", "b.heif", "c.dcm", "d.cr2"])
def test_a_folder_of_unread_pictures_alone_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"whatever is in it")
    with pytest.raises(ValueError, match=name):
        open_source(tmp_path)


def test_text_and_what_file_managers_leave_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(PNG)
    for suffix in PASSED_OVER - {".json", ".jsonl", ".csv", ".tsv"}:
        (tmp_path / f"notes{suffix.upper()}").write_text("P5 or BM, a text")
    for name in ("README", "LICENSE", "Thumbs.db", ".DS_Store", "desktop.ini", "._0.png"):
        (tmp_path / name).write_bytes(b"BM" + bytes(12) + b"\x28\0\0\0")
    assert len(open_source(tmp_path)) == 1


def test_a_record_whose_name_ends_like_another_format_is_read(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("my.raw/0.png")
        info.size = len(PNG)
        archive.addfile(info, io.BytesIO(PNG))
    assert len(open_source(tmp_path)) == 1
    assert decode_picture(PNG, "a.tar: 0.img").shape == (6, 6, 1)


def test_a_camera_file_in_a_class_folder_is_not_read_as_its_preview(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("0.tif", "1.dng"):
        Image.new("L", (6, 6)).save(tmp_path / "a" / name, "TIFF")
    with pytest.raises(ValueError, match="1.dng is camera raw, which is not read"):
        open_source(tmp_path)


def test_every_suffix_belongs_to_one_list() -> None:
    suffixes = [s for one in (READ, UNREAD) for found in one.values() for s in found]
    suffixes += PASSED_OVER
    assert len(suffixes) == len(set(suffixes))
    assert all(s == s.lower() and s.startswith(".") for s in suffixes)


def test_a_name_that_says_raw_counts_before_a_content_that_says_tiff() -> None:
    assert picture_format("a/1.DNG", b"II*\0") == ("camera raw", False)
    assert picture_format("a/1.tif", b"II*\0") == ("TIFF", True)
    assert picture_format("a/1.tif", b"nothing") is None
