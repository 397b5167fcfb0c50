"""Where data lie: the files of a location, their kind, found from content, and their splits."""

from __future__ import annotations

import gzip
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dpgen.data.formats.pictures import JPEG_MAGIC, PNG_MAGIC
from dpgen.storage.files import InPieces, open_file, read_json

Split = Literal["train", "test", "all"]

CLASS_LIST = "dataset.json"
CLASS_LIST_SCHEMA = "dpgen-dataset/1"
CLASS_LIST_BYTES = 2**22

SUFFIXES = {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp"}
SUFFIXES |= {".npz", ".npy", ".parquet", ".tar", ".gz", ".tgz", ".zip"}
HIDDEN = {
    "Thumbs.db",
    "desktop.ini",
    "__MACOSX",
}  # what file managers leave behind, besides dot-files
_SPLIT_WORD = {"train": "train", "test": "test", "t10k": "test"}


@dataclass(frozen=True)
class DataFile:
    """One file of a location, its split ("" for none) and, in an image folder, its class."""

    path: Path
    split: str
    class_name: str | None = None


@dataclass(frozen=True)
class Located:
    """The data files of one location, all of one kind, in order, and those of the split chosen.

    Class lists are taken from ``files``, records from ``chosen``: a label means the same in every
    split.
    """

    kind: str
    root: Path
    files: tuple[DataFile, ...]
    chosen: tuple[DataFile, ...]
    class_names: tuple[str, ...] | None


def locate(path: Path, split: Split) -> Located:
    """Finds the data files under a path, a file or a folder, and their kind.

    Files that are no data (a README, privacy.json) and hidden files are passed over; a file named
    like data that is none is an error, and so are two kinds in one folder.
    """
    if not path.is_dir():
        kind = _kind(path)
        if kind in (None, "folder"):
            cure = (
                "point at the folder that holds the pictures"
                if kind
                else "point at a data file or folder"
            )
            raise ValueError(f"{path} is no data set: {cure}")
        files, root = [DataFile(path, "")], path.parent
    else:
        (kind, files), root = _scan(path), path
    names = read_class_list(root / CLASS_LIST) if kind in ("folder", "webdataset") else None
    return Located(kind, root, tuple(files), tuple(_choose(files, split, path)), names)


def read_class_list(path: Path) -> tuple[str, ...] | None:
    """The class names, in label order, that dataset.json lists; None without the file."""
    if not path.exists():
        return None
    table = read_json(path, CLASS_LIST_BYTES)
    schema = table.get("schema") if isinstance(table, dict) else None
    if schema != CLASS_LIST_SCHEMA:
        raise ValueError(
            f"{path} must have the schema {CLASS_LIST_SCHEMA!r}, got {schema!r:.60}: rename it if "
            "it is another tool's"
        )
    names = table.get("class_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path}: class_names must be a list of names, got {names!r:.200}")
    return tuple(names)


def visible(folder: Path) -> list[Path]:
    """The entries of a folder, sorted by name, without hidden ones."""
    return sorted(
        (entry for entry in folder.iterdir() if entry.name[0] != "." and entry.name not in HIDDEN),
        key=lambda entry: entry.name,
    )


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
        files = [DataFile(f.path, "train", f.class_name) for f in train]
        files += [DataFile(f.path, "test", f.class_name) for f in test]
        others = [name for name in inner if name not in ("train", "test")]
        return kind, files + [DataFile(inner[name], "other") for name in others]
    kind, files = _scan_level(folder)
    if kind == "folder":
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
    if found:
        return found[0], [DataFile(entry, "", None) for entry in data]
    if not inner:
        raise ValueError(
            f"{folder} holds no data: expected IDX, npz, Parquet, tar or picture files"
        )
    return "folder", [file for entry in inner for file in _class_files(entry)]


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
    if kind not in ("folder", None):
        raise ValueError(
            f"class folder {folder} must hold pictures, got {kind} data: point at {folder} itself"
        )
    return [DataFile(entry, "", folder.name) for entry in entries]


def _named_split(name: str, kind: str) -> str:
    """train-00000.npz is of split train; IDX names may have a prefix, emnist-letters-train-..."""
    start = r"(?:^|[-_.])" if kind == "idx" else r"^"
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
    """The kind of a file from its first bytes; None if it is no data and not named like it."""
    try:
        kind = _kind_from_content(path)
    except (
        EOFError, OSError, zlib.error, zipfile.BadZipFile, struct.error, OverflowError, RuntimeError
    ) as error:  # fmt: skip
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{path} is damaged or truncated: {error}") from error
    if kind is None and path.suffix.lower() in SUFFIXES:
        what = (
            "is empty"
            if path.stat().st_size == 0
            else "is not what its name says, or of no kind read here"
        )
        raise ValueError(f"{path} {what}: expected IDX, npz, Parquet, tar, PNG or JPEG")
    return kind


def _kind_from_content(path: Path) -> str | None:
    with open_file(path) as raw:
        head = raw.read(512)
        packed = head.startswith(b"\x1f\x8b")
        if packed:
            raw.seek(0)
            head = gzip.GzipFile(fileobj=raw).read(512)
    if head[:2] == b"\0\0" and len(head) > 4 and 8 <= head[2] <= 14 and 1 <= head[3] <= 4:
        return "idx"
    if head[257:262] == b"ustar" and packed:
        raise ValueError(
            f"{path} is a compressed tar, which cannot be read in any order: gunzip it"
        )
    if head[257:262] == b"ustar":
        return "webdataset"
    if head.startswith((PNG_MAGIC, JPEG_MAGIC)):
        return "folder"
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"PK\x03\x04"):
        return _kind_of_zip(path)
    return None


def _kind_of_zip(path: Path) -> str | None:
    if path.suffix.lower() == ".zip":
        raise ValueError(f"{path} is a zip archive: unpack it and point at the folder")
    with InPieces(path) as file, zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    if path.suffix.lower() == ".npz":
        raise ValueError(f"{path} must hold arrays (.npy) only, got {names[:3]!s:.200}")
    return None
