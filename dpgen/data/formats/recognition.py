"""Finds the data files of a location and their format, from their content."""

from __future__ import annotations

import gzip
import re
import struct
import zipfile
import zlib
from pathlib import Path

from dpgen.data.formats.format import Head
from dpgen.data.formats.location import (
    CLASS_LIST,
    DataFile,
    Located,
    Split,
    read_class_list,
    visible,
)
from dpgen.data.formats.picture_files import check_beside_pictures, unread_picture
from dpgen.data.formats.table import FOLDER, FORMATS, find, named_files
from dpgen.storage.files import open_file

HEAD_BYTES = 512
GZIP_MAGIC = b"\x1f\x8b"
_SPLIT_WORD = {"train": "train", "test": "test", "t10k": "test"}


def locate(path: Path, split: Split) -> Located:
    """Finds the data files under a path, a file or a folder, and their kind.

    Files that are no data (a README, privacy.json) and hidden files are passed over; a file named
    like data that is none is an error, and so are two kinds in one folder.
    """
    if not path.is_dir():
        kind = _kind(path)
        if kind in (None, FOLDER):
            cure = (
                "point at the folder that holds the pictures"
                if kind
                else "point at a data file or folder"
            )
            raise ValueError(f"{path} is no data set: {cure}")
        files, root = [DataFile(path, "")], path.parent
    else:
        (kind, files), root = _scan(path), path
    names = read_class_list(root / CLASS_LIST) if find(kind).reads_class_list else None
    return Located(kind, root, tuple(files), tuple(_choose(files, split, path)), names)


def _scan(folder: Path) -> tuple[str, list[DataFile]]:
    inner = {entry.name: entry for entry in visible(folder) if entry.is_dir()}
    if {"train", "test"} <= set(inner):
        (kind, train), (other, test) = _scan_level(inner["train"]), _scan_level(inner["test"])
        if kind != other:
            raise ValueError(
                f"{folder} must hold one kind of data, got {kind} in train/ and {other} in test/"
            )
        loose = [entry for entry in visible(folder) if entry.is_file() and _kind(entry)]
        if loose:
            raise ValueError(
                f"{folder} must not hold data beside train/ and test/, got {loose[0].name}"
            )
        if kind == FOLDER:
            _check_others([e for e in visible(folder) if not e.is_dir()], [FOLDER], [])
        files = [DataFile(f.path, "train", f.class_name) for f in train]
        files += [DataFile(f.path, "test", f.class_name) for f in test]
        others = [name for name in inner if name not in ("train", "test")]
        return kind, files + [DataFile(inner[name], "other") for name in others]
    kind, files = _scan_level(folder)
    if kind == FOLDER:
        return kind, files
    return kind, [DataFile(f.path, _named_split(f.path.name, kind)) for f in files]


def _scan_level(folder: Path) -> tuple[str, list[DataFile]]:
    entries = visible(folder)
    inner = [entry for entry in entries if entry.is_dir()]
    kinds = {entry: _kind(entry) for entry in entries if not entry.is_dir()}
    data = [entry for entry, kind in kinds.items() if kind]
    found = sorted({kind for kind in kinds.values() if kind})
    if len(found) > 1:
        raise ValueError(
            f"{folder} must hold one kind of data, got {' and '.join(found)}: move one away"
        )
    if found and inner:
        raise ValueError(
            f"{folder} must hold data files or sub-folders, got {data[0].name} and "
            f"{inner[0].name}/: move one away"
        )
    _check_others([entry for entry, kind in kinds.items() if not kind], found, inner)
    if found:
        return found[0], [DataFile(entry, "", None) for entry in data]
    if not inner:
        raise ValueError(f"{folder} holds no data: expected {named_files()} files")
    return FOLDER, [file for entry in inner for file in _class_files(entry)]


def _check_others(others: list[Path], kinds: list[str], inner: list[Path]) -> None:
    """Refuses what lies beside pictures, or beside class folders, and may be a record."""
    for path in others:
        head = _head(path).data
        if kinds == [FOLDER] or (inner and not kinds):
            check_beside_pictures(path.name, head, str(path))
        elif not kinds and (wrong := unread_picture(path.name, head)) is not None:
            raise ValueError(f"{path} {wrong}")


def _class_files(folder: Path) -> list[DataFile]:
    entries = visible(folder)
    if not entries:
        raise ValueError(f"class folder {folder} holds no images: remove the folder or fill it")
    for entry in entries:
        if entry.is_dir():
            raise ValueError(
                f"class folder {folder} must hold pictures only, got the folder {entry.name}/"
            )
    kind = _kind(entries[0])
    if kind not in (FOLDER, None):
        raise ValueError(
            f"class folder {folder} must hold pictures, got {kind} data: point at {folder} itself"
        )
    return [DataFile(entry, "", folder.name) for entry in entries]


def _named_split(name: str, kind: str) -> str:
    """train-00000.npz is of split train; IDX names may have a prefix, emnist-letters-train-..."""
    start = r"(?:^|[-_.])" if find(kind).prefixed_splits else r"^"
    found = re.search(start + r"(train|test|t10k)(?=[-_.]|$)", name)
    return _SPLIT_WORD[found[1]] if found else ""


def _choose(files: list[DataFile], split: Split, path: Path) -> list[DataFile]:
    others = sorted(file.path.name for file in files if file.split == "other")
    if split == "all" and others:
        raise ValueError(
            f"split all would leave out {path / others[0]}: name train or test, or point inside"
        )
    names = {file.split for file in files} & {"train", "test"}
    if split == "all" or not names:
        return files
    if split not in names:
        raise ValueError(
            f"{path} has no {split} split, only {names.pop()}: use --split all or name that one"
        )
    return [file for file in files if file.split == split]


def _kind(path: Path) -> str | None:
    """The kind of a file from its content; None if it is no data and not named like it."""
    try:
        head = _head(path)
        kinds = [kind for kind in FORMATS if find(kind).recognise_fn(head)]
    except (
        EOFError, OSError, zlib.error, zipfile.BadZipFile, struct.error, OverflowError, RuntimeError
    ) as error:  # fmt: skip
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{path} is damaged or truncated: {error}") from error
    if len(kinds) > 1:
        raise ValueError(f"{path} must be of one format, it passes for {' and '.join(kinds)}")
    if kinds:
        return kinds[0]
    formats = [find(kind) for kind in FORMATS]
    for hint in (one.hint_fn(head) for one in formats):
        if hint is not None:
            raise ValueError(f"{path} {hint}")
    if path.suffix.lower() in {suffix for one in formats for suffix in one.suffixes}:
        what = (
            "is empty"
            if path.stat().st_size == 0
            else "is not what its name says, or of no kind read here"
        )
        raise ValueError(f"{path} {what}: expected {named_files()}")
    return None


def _head(path: Path) -> Head:
    with open_file(path) as raw:
        data = raw.read(HEAD_BYTES)
        if not data.startswith(GZIP_MAGIC):
            return Head(path, data, gzipped=False)
        raw.seek(0)
        return Head(path, gzip.GzipFile(fileobj=raw).read(HEAD_BYTES), gzipped=True)
