"""Texts beside pictures, in folders and in tar shards: a label is never passed over in silence."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from dpgen.data.formats.pictures import encode_png
from dpgen.data.inspection import inspect_images
from dpgen.data.sources import open_source


def put(root: Path, texts: dict[str, bytes], *, packed: bool) -> Path:
    """Writes two pictures, 0.png and 1.png, and texts beside them."""
    files = {f"{i}.png": encode_png(np.full((4, 4, 1), 100 + i, np.uint8)) for i in range(2)}
    files |= texts
    if not packed:
        root = root / "set"
        root.mkdir()
        for name, data in files.items():
            (root / name).write_bytes(data)
        return root
    with tarfile.open(root / "a.tar", "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return root / "a.tar"


@pytest.mark.parametrize(
    "texts",
    [
        {"0.yaml": b"label: 1", "1.yaml": b"label: 0"},
        {"0.YML": b"label: 1"},
        {"1.xml": b"<object/>"},
        {"0.toml": b"label = 1"},
        {"labels.csv": b"file,label\n0,1\n"},
        {"annotations.tsv": b"0\t1\n"},
        {"labels.txt": b"0\n1\n"},
        {"annotations.json": b'{"images": []}'},
    ],
    ids=lambda texts: next(iter(texts)),
)
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "tar"])
def test_what_may_hold_labels_that_are_not_read_is_refused(
    tmp_path: Path, texts: dict[str, bytes], packed: bool
) -> None:
    path = put(tmp_path, texts, packed=packed)
    cure = r"\.cls, \.json or \.txt .*--classes 1" if packed else r"metadata\.csv"
    with pytest.raises(ValueError, match=f"{next(iter(texts))}.*may hold.*{cure}"):
        open_source(path)
    if packed:
        assert open_source(path, classes=1).class_names == ("0",)


@pytest.mark.parametrize("text", [b'{"label": 1}', b"1", b"cat\n"], ids=["json", "number", "word"])
def test_labels_beside_pictures_of_a_flat_folder_are_refused(tmp_path: Path, text: bytes) -> None:
    name = "0.json" if text.startswith(b"{") else "0.txt"
    root = put(tmp_path, {name: text}, packed=False)
    with pytest.raises(ValueError, match=rf"{name} lies beside the picture.*metadata\.csv"):
        open_source(root)


def test_captions_and_notes_may_lie_beside_pictures(tmp_path: Path) -> None:
    texts = {"0.txt": b"a grey square of four pixels", "1.txt": b"", "README.md": b"about"}
    assert open_source(put(tmp_path, texts, packed=False)).class_names == ("all",)


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        ({"0.txt": b"a grey square of pixels", "1.txt": b"and one more of them"}, "2 .txt"),
        ({"0.cls": b"1", "1.cls": b"0", "0.yaml": b"x: 1", "1.yaml": b"x: 2"}, "2 .yaml"),
        ({"0.cls": b"1", "1.cls": b"0", "0.txt": b"dog"}, "1 .txt"),
        ({"0.cls": b"1", "1.cls": b"0", "classes.txt": b"cat\ndog"}, "1 .txt"),
        ({"0.json": b'{"caption": "x"}', "1.json": b'{"caption": "y"}'}, "2 .json"),
        ({"README": b"about", "LICENSE.md": b"free"}, "1 README"),
        ({"._0.png": b"x"}, "1 .png"),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)
def test_kinds_of_files_in_shards_that_are_passed_over_are_named(
    tmp_path: Path, texts: dict[str, bytes], told: str
) -> None:
    labelled = any(name.endswith(".cls") for name in texts)
    found, _ = inspect_images(
        put(tmp_path, texts, packed=True), classes=2 if labelled else None
    )
    assert any(name.startswith(f"{told} in tar shards, as a.tar: ") for name in found.passed_over)
    n_told = sum(int(name.split()[0]) for name in found.passed_over)
    assert n_told == len(texts) - (2 if labelled else 0)
