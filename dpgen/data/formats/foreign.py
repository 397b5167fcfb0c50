"""Files of other kinds than those that are read: known by their names or first bytes, and refused
with what to do about them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from dpgen.data.formats.picture_files import may_be_passed_over


class _Foreign(NamedTuple):
    """A kind of file: its suffixes, its first bytes, and the words of a message."""

    suffixes: tuple[str, ...]
    beginnings: tuple[bytes, ...]
    what: str
    cure: str


_UNPACK = "unpack it and point at the folder"
_ARRAYS = "save its arrays with numpy.savez('x.npz', images=..., labels=...)"
_ROWS = "save it as Parquet"
_FOREIGN = (
    _Foreign((".bz2", ".tbz2", ".tbz"), (b"BZh",), "is packed with bzip2", _UNPACK),
    _Foreign((".xz", ".txz", ".lzma"), (b"\xfd7zXZ\0",), "is packed with xz", _UNPACK),
    _Foreign((".zst", ".tzst"), (b"\x28\xb5\x2f\xfd",), "is packed with Zstandard", _UNPACK),
    _Foreign((".lz4",), (b"\x04\x22\x4d\x18",), "is packed with LZ4", _UNPACK),
    _Foreign((".7z",), (b"7z\xbc\xaf\x27\x1c",), "is a 7z archive", _UNPACK),
    _Foreign((".rar",), (b"Rar!\x1a\x07",), "is a RAR archive", _UNPACK),
    _Foreign((".h5", ".hdf5", ".he5"), (b"\x89HDF\r\n\x1a\n",), "is HDF5", _ARRAYS),
    _Foreign((".mat",), (b"MATLAB 5.0",), "is a MATLAB file", _ARRAYS),
    _Foreign((".nc",), (b"CDF\x01", b"CDF\x02"), "is NetCDF", _ARRAYS),
    _Foreign((".pkl", ".pickle"), (b"\x80\x02}", b"\x80\x03", b"\x80\x04\x95", b"\x80\x05\x95"),
             "is a pickle", _ARRAYS),
    _Foreign((".pt", ".pth"), (), "is a file of PyTorch", _ARRAYS),
    _Foreign((".tfrecord", ".tfrecords", ".tfrec"), (), "is a TFRecord", _ROWS),
    _Foreign((".arrow", ".feather"), (b"ARROW1\0\0", b"FEA1"), "is Arrow", _ROWS),
    _Foreign((".orc",), (b"ORC",), "is ORC", _ROWS),
    _Foreign((".avro",), (b"Obj\x01",), "is Avro", _ROWS),
    _Foreign((".mdb", ".lmdb"), (), "is LMDB", _ROWS),
    _Foreign((".beton",), (), "is of FFCV", _ROWS),
    _Foreign((), (b"version https://git-lfs",), "is a pointer of Git LFS, not the file itself",
             "get the file with git lfs pull"),
    _Foreign((), (b"<!doctype html", b"<!DOCTYPE html", b"<!DOCTYPE HTML", b"<html", b"<HTML"),
             "is a web page, as servers send it in place of a file", "download it again"),
)  # fmt: skip
_TFRECORD = re.compile(r"\.tfrecords?[-_.]\d", re.IGNORECASE)  # x.tfrecord-00000-of-00001
_LEFT = re.compile(
    r"~$|\.(?:bak|backup|old|orig|save|tmp|temp|part|partial|filepart|crdownload|download"
    r"|opdownload|incomplete|swp)\d*$",
    re.IGNORECASE,
)


def foreign_file(name: str, head: bytes) -> str | None:
    """Describes a file of another kind, and what to do; None for others.

    Args:
        name: of the file.
        head: its first bytes, at least 24 if it has as many.
    """
    lower = name.lower()
    if may_be_passed_over(name) and not head.startswith(b"version https://git-lfs"):
        return None
    for one in _FOREIGN:
        if head.startswith(one.beginnings) or lower.endswith(one.suffixes):
            return f"{one.what}, which is not read: {one.cure}, or move it away"
    if _TFRECORD.search(name):
        return f"is a TFRecord, which is not read: {_ROWS}, or move it away"
    return None


def left_over(name: str) -> str | None:
    """Describes a file that is named as a backup or an unfinished download; None for others."""
    if _LEFT.search(name) is None:
        return None
    return (
        "is named as a backup of another file or a download that was not finished: move it away, "
        "or rename it if it is neither"
    )


def is_binary(head: bytes) -> bool:
    """Returns whether the first bytes of a file are those of no text in UTF-8."""
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.start < len(head) - 3  # else the last letter is cut
    return b"\0" in head
