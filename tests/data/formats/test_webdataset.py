from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from dpgen.data.formats.pictures import encode_png
from dpgen.data.sources import open_source

PNG = encode_png(np.full((4, 4, 3), 7, np.uint8))


def shard(path: Path, members: dict[str, bytes], mode: str = "w", **fields: object) -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for key, value in fields.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(data))
    return path


def test_pairs_are_read_in_the_order_of_the_shards(tmp_path: Path) -> None:
    first = {"x/1.png": PNG, "x/1.cls": b"2", "x/0.json": b'{"label": 1}', "x/0.png": PNG}
    shard(tmp_path / "shard-000000.tar", first)
    shard(tmp_path / "shard-000001.tar", {"5.jpg": PNG, "5.cls": b"0\n", "5.txt": b"a caption"})
    source = open_source(tmp_path, classes=3)
    pixels, labels = source.read(range(3))
    assert labels.tolist() == [2, 1, 0]
    assert source.class_names == ("0", "1", "2")
    assert pixels.unique().tolist() == [7] and pixels.shape == (3, 3, 4, 4)


def test_shards_without_labels_have_one_class(tmp_path: Path) -> None:
    shard(tmp_path / "a.tar", {"0.png": PNG, "0.json": b'{"caption": "x"}'})
    assert open_source(tmp_path / "a.tar").class_names == ("all",)


def test_what_other_tools_write_beside_a_label_is_passed_over(tmp_path: Path) -> None:
    text = b'{"label": 1, "similarity": NaN, "sizes": [1e999], "url": "u"}'
    shard(tmp_path / "a.tar", {"0.png": PNG, "0.json": text})
    assert open_source(tmp_path / "a.tar", classes=2).read([0])[1].tolist() == [1]


def test_file_names_tell_the_splits(tmp_path: Path) -> None:
    shard(tmp_path / "train-0.tar", {"0.png": PNG, "0.cls": b"4"})
    shard(tmp_path / "test-0.tar", {"0.png": PNG, "0.cls": b"1"})
    source = open_source(tmp_path, split="test", classes=5)
    assert source.read([0])[1].tolist() == [1] and len(source) == 1


@pytest.mark.parametrize(
    ("members", "word"),
    [
        ({"/etc/0.png": PNG}, "relative names"),
        ({"../0.png": PNG}, "relative names"),
        ({"0.png": PNG, "0.jpg": PNG}, "two"),
        ({"0.cls": b"1"}, "no picture"),
        ({"0.png": PNG, "0.cls": b"cat"}, "whole number, got b'cat'"),
        ({"0.png": PNG, "0.cls": b"-1"}, "at least 0|in 0"),
        ({"0.png": PNG, "0.json": b"{"}, "must be JSON"),
        ({"0.png": PNG, "0.json": b'{"label": NaN}'}, "whole number as label, got nan"),
        ({"0.png": PNG, "0.json": b'{"label": 1, "label": 0}'}, "key 'label' stands twice"),
        ({"0.png": PNG, "0.json": b'{"label": "cat"}'}, "whole number as label"),
        ({"0.png": PNG, "0.cls": b"1", "1.png": PNG}, "1 must have a label"),
        ({"0.png": PNG[:-20]}, "a.tar: 0 is damaged or truncated PNG"),
        ({"notes.txt": b"x"}, "at least one record"),
    ],
)
def test_a_bad_shard_is_refused(tmp_path: Path, members: dict[str, bytes], word: str) -> None:
    shard(tmp_path / "a.tar", members)
    with pytest.raises(ValueError, match=word):
        open_source(tmp_path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    shard(tmp_path / "a.tar", {"0.png": b""}, type=kind, linkname="/etc/passwd")
    with pytest.raises(ValueError, match="link or a device"):
        open_source(tmp_path)


@pytest.mark.parametrize("kept", [600, 1024, 1100, 2048])
def test_a_cut_shard_is_refused(tmp_path: Path, kept: int) -> None:
    path = shard(tmp_path / "a.tar", {"0.png": PNG, "1.png": PNG})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="a.tar is damaged or truncated"):
        open_source(tmp_path)


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", {"0.png": PNG, "1.png": PNG})
    data = bytearray(path.read_bytes())
    data[1024 + 100] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="damaged or truncated behind byte 1024"):
        open_source(tmp_path)


def test_a_compressed_shard_is_refused_with_the_cure(tmp_path: Path) -> None:
    shard(tmp_path / "a.tar.gz", {"0.png": PNG}, "w:gz")
    with pytest.raises(ValueError, match="gunzip"):
        open_source(tmp_path)
