"""The table of formats. A format is one file in this folder and one row here.

The table holds names only, so that the command line can list them without loading a reader.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from dpgen.data.formats.format import Format, Writer

FOLDER = "folder"  # the one kind in which a record is a file, and a sub-folder is a class


class Row(NamedTuple):
    """A format.

    home: module and name of its `Format`, imported when a file is checked.
    files: names of its files in a message.
    described: the same for a help text.
    writes: whether `dpgen sample --format` offers it.
    shards: name pattern of the files of a written set; empty if each image is a file.
    media_type: media type of such a file.
    """

    home: str
    files: tuple[str, ...]
    described: str
    writes: bool = False
    shards: str = "images-*"
    media_type: str = "application/octet-stream"


FORMATS = {
    "idx": Row("dpgen.data.formats.idx:IDX", ("IDX",), "IDX files (MNIST's own)"),
    "npz": Row(
        "dpgen.data.formats.npz:NPZ", ("npz",), "npz archives", True, "images-*.npz",
        "application/zip",
    ),
    "parquet": Row(
        "dpgen.data.formats.parquet:PARQUET", ("Parquet",), "Parquet in the Hugging Face layout",
        True, "train-*.parquet", "application/x-parquet",
    ),
    "webdataset": Row(
        "dpgen.data.formats.webdataset:WEBDATASET", ("tar",), "WebDataset tar shards", True,
        "shard-*.tar", "application/x-tar",
    ),
    FOLDER: Row(
        "dpgen.data.formats.folder:FOLDER_OF_PICTURES",
        ("PNG", "JPEG", "TIFF", "BMP", "WebP", "GIF", "PGM", "DICOM"),
        "a folder of pictures (PNG, JPEG, TIFF, BMP, WebP, GIF, PGM, DICOM), one sub-folder per "
        "class", True, "", "image/png",
    ),
}  # fmt: skip


def find(kind: str) -> Format:
    """Returns the format of a kind, a key of `FORMATS`."""
    module, name = FORMATS[kind].home.split(":")
    found: Format = getattr(importlib.import_module(module), name)
    return found


def written() -> tuple[str, ...]:
    """Returns the kinds that a synthetic set can be written in, in alphabetical order."""
    return tuple(sorted(kind for kind, row in FORMATS.items() if row.writes))


def writer(kind: str) -> Writer:
    """Returns how sets are written in a format. Raises ValueError for one that is not written."""
    if kind not in written():
        raise ValueError(f"format must be one of {', '.join(written())}, got {kind!r}")
    found = find(kind).writer
    assert found is not None, f"the row of {kind} promises a writer"
    return found


def named_files() -> str:
    """Lists the supported formats for messages: "IDX, npz, ... or JPEG"."""
    return _alternatives([name for row in FORMATS.values() for name in row.files])


def described() -> str:
    """Describes the supported formats, for a help text."""
    return _alternatives([row.described for row in FORMATS.values()])


def _alternatives(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
