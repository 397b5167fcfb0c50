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
        ({"0.png": PNG, "0.cls": b"cat"}, "whole number, got 'cat'"),
        ({"0.png": PNG, "0.cls": b"-1"}, "which classes there are"),
        ({"0.png": PNG, "0.json": b"{"}, "must be JSON"),
        ({"0.png": PNG, "0.json": b'{"label": NaN}'}, "whole number as label, got nan"),
        ({"0.png": PNG, "0.json": b'{"label": 1, "label": 0}'}, "key 'label' stands twice"),
        ({"0.png": PNG, "0.json": b'{"label": "cat"}'}, "whole number, got 'cat'"),
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


Y = [2, 0, 1, 0]
BESIDE = {
    "class_id": lambda y: ("json", b'{"class_id": %d, "width": 16}' % y),
    "category": lambda y: ("json", b'{"category": %d}' % y),
    "target": lambda y: ("json", b'{"id": 9, "target": %d}' % y),
    "bare": lambda y: ("json", b"%d" % y),
    "text": lambda y: ("txt", b"%d\n" % y),
    "label": lambda y: ("label", b"%d" % y),
    "cls in the middle": lambda y: ("cls.txt", b"%d" % y),
    "upper case": lambda y: ("CLS", b"%d" % y),
}
NAMED = {
    "name in cls": lambda y: ("cls", b"abc"[y : y + 1]),
    "name in json": lambda y: ("json", b'{"class_name": "%c", "x": NaN}' % b"abc"[y]),
    "name in txt": lambda y: ("txt", b"abc"[y : y + 1]),
}


def labelled(place: Path, beside: object) -> Path:
    members = {}
    for i, y in enumerate(Y):
        suffix, data = beside(y)
        members |= {f"x/{i}.png": PNG, f"x/{i}.{suffix}": data}
    return shard(place / "a.tar", members)


@pytest.mark.parametrize("where", BESIDE)
def test_a_label_beside_a_picture_goes_by_any_usual_name(tmp_path: Path, where: str) -> None:
    labelled(tmp_path, BESIDE[where])
    assert open_source(tmp_path, classes=3).read(range(4))[1].tolist() == Y
    with pytest.raises(ValueError, match="--classes N"):
        open_source(tmp_path)


@pytest.mark.parametrize("where", NAMED)
def test_text_beside_a_picture_is_the_name_of_a_declared_class(tmp_path: Path, where: str) -> None:
    labelled(tmp_path, NAMED[where])
    assert open_source(tmp_path, classes=["a", "b", "c"]).read(range(4))[1].tolist() == Y
    with pytest.raises(ValueError, match="--classes NAME,NAME"):
        open_source(tmp_path)
    with pytest.raises(ValueError, match="one of the classes a, b, got 'c'"):
        open_source(tmp_path, classes=["a", "b"])


def test_captions_are_no_labels(tmp_path: Path) -> None:
    shard(tmp_path / "a.tar", {"0.png": PNG, "0.txt": b"a grey square, seen from above"})
    assert open_source(tmp_path).class_names == ("all",)
    shard(tmp_path / "a.tar", {"0.png": PNG, "0.txt": b"a square"})
    with pytest.raises(ValueError, match="a label or a caption, got 'a square'.*--classes 1"):
        open_source(tmp_path)
    assert open_source(tmp_path, classes=1).class_names == ("0",)


def test_folders_of_a_shard_are_classes_once_they_are_declared(tmp_path: Path) -> None:
    shard(tmp_path / "a.tar", {"x/b/0.png": PNG, "x/a/0.png": PNG})
    assert open_source(tmp_path, classes=["a", "b"]).read([0, 1])[1].tolist() == [1, 0]
    assert open_source(tmp_path, classes=1).read([0, 1])[1].tolist() == [0, 0]
    for classes in (None, 2, ["a", "c"]):
        with pytest.raises(ValueError, match="in the folders a, b and have no labels"):
            open_source(tmp_path, classes=classes)


def test_labels_that_agree_are_one(tmp_path: Path) -> None:
    members = {"0.png": PNG, "0.cls": b"1", "0.json": b'{"label": "dog"}'}
    shard(tmp_path / "a.tar", members)
    assert open_source(tmp_path, classes=["cat", "dog"]).read([0])[1].tolist() == [1]
    with pytest.raises(ValueError, match="0.cls says 1, 0.json says 'dog'"):
        open_source(tmp_path, classes=["dog", "cat"])


@pytest.mark.parametrize(
    ("names", "n"),
    [
        (["0.v2.png", "0.v2.cls", "1.png", "1.cls"], 2),
        (["scan.0.png", "scan.0.cls", "scan.1.png", "scan.1.cls"], 2),
        (["0.img.png", "0.cls"], 1),
        (["a.b.c.png", "a.b.c.cls", "a.b.d.png", "a.b.d.cls", "z.png", "z.cls"], 3),
        (["x.y/0.png", "x.y/0.cls"], 1),
        (["0.PNG", "0.Cls"], 1),
    ],
)
def test_dots_in_names_hide_no_picture(tmp_path: Path, names: list[str], n: int) -> None:
    shard(tmp_path / "a.tar", {k: PNG if k.lower().endswith("png") else b"1" for k in names})
    assert open_source(tmp_path, classes=2).read(range(n))[1].tolist() == [1] * n


@pytest.mark.parametrize(
    ("members", "word"),
    [
        ({"0.cls": b"0", "0.json": b'{"label": 1}'}, "one label, got two: 0.cls says 0, 0.json"),
        ({"0.cls": b"0", "0.cls2": b"1"}, "one label, got two"),
        ({"0.json": b'{"class_id": 1, "target": 1}'}, "one label column, got .*class_id.*target"),
        ({"0.json": b'{"target": null}'}, "whole number as target, got None"),
        ({"0.json": b'{"label": [1]}'}, r"whole number as label, got \[1\]"),
        ({"0.cls": b"1.5"}, "got '1.5'"),
        ({"0.cls": b""}, "the name of a class, got b''"),
        ({"0.cls": b"\xff\0"}, "the name of a class"),
        ({"0.label.npy": b"x"}, "0.label.npy looks like a label"),
        ({"0.seg.png": PNG}, "0.png and 0.seg.png are pictures of one key"),
        ({"0.cls": b"1", "0.seg.png": PNG}, "are pictures of one key"),
        ({"1.webp": b"x"}, "1 must be a picture that is read"),
        ({"1.HEIC": b"x"}, "1.HEIC is HEIC, which is not read"),
        ({"1": PNG}, "1 looks like a picture"),
        ({"1.png.bak": PNG}, "1.png.bak looks like a picture"),
        ({"1.bin": b"RIFF\0\0\0\0WEBPVP8 "}, "1.bin looks like a picture"),
    ],
)
def test_a_member_that_would_be_misread_is_refused_by_name(
    tmp_path: Path, members: dict[str, bytes], word: str
) -> None:
    shard(tmp_path / "a.tar", {"0.png": PNG} | members)
    with pytest.raises(ValueError, match=word):
        open_source(tmp_path)


def test_input_and_target_pictures_of_a_key_are_no_two_records(tmp_path: Path) -> None:
    shard(tmp_path / "a.tar", {"0.input.png": PNG, "0.target.png": PNG})
    with pytest.raises(ValueError, match="0.input.png and 0.target.png are pictures of one key"):
        open_source(tmp_path)


def test_keys_that_are_passed_over_are_told(tmp_path: Path) -> None:
    shard(tmp_path / "a.tar", {"0.png": PNG, "0.json": b'{"breed": 1, "width": 4}'})
    with pytest.warns(UserWarning, match="passed over: breed, width"):
        assert open_source(tmp_path).class_names == ("all",)


def test_a_named_key_of_the_json_holds_the_labels_and_nothing_else_does(tmp_path: Path) -> None:
    text = b'{"target": 2, "category": 1, "dx": 0}'
    path = shard(tmp_path / "a.tar", {"0.png": PNG, "0.json": text, "0.cls": b"2"})
    with pytest.raises(ValueError, match="one label column, got .*--label-column NAME"):
        open_source(path, classes=3)
    for key, value in {"target": 2, "category": 1, "dx": 0}.items():
        source = open_source(path, classes=3, label_column=key)
        assert source.read([0])[1].tolist() == [value]
    with pytest.raises(ValueError, match=r"label column 'age', got \['target', 'category', 'dx'\]"):
        open_source(path, classes=3, label_column="age")
    bare = shard(tmp_path / "b.tar", {"0.png": PNG, "0.cls": b"2"})
    with pytest.raises(ValueError, match="--label-column dx names a key.*0 has none"):
        open_source(bare, classes=3, label_column="dx")
