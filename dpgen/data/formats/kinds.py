"""Tells of what kind a file is, from its content."""

from __future__ import annotations

import gzip
import struct
import zipfile
import zlib
from pathlib import Path

from dpgen.data.formats.foreign import foreign_file, is_binary, left_over
from dpgen.data.formats.format import Head
from dpgen.data.formats.picture_files import unread_picture, unread_volume
from dpgen.data.formats.table import FORMATS, find, named_files
from dpgen.storage.files import open_file

HEAD_BYTES = 512
GZIP_MAGIC = b"\x1f\x8b"


def kind_of(path: Path) -> str | None:
    """Returns the kind of a file from its content; None if it is no data and not named like it."""
    volume = unread_volume(path.name)
    if volume is not None:
        raise ValueError(f"{path} {volume}")
    try:
        head = head_of(path)
        kinds = [kind for kind in FORMATS if find(kind).recognise_fn(head)]
    except (
        EOFError, OSError, zlib.error, zipfile.BadZipFile, struct.error, OverflowError, RuntimeError
    ) as error:  # fmt: skip
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{path} is damaged or truncated: {error}") from error
    if len(kinds) > 1:
        raise ValueError(f"{path} must be of one format, it passes for {' and '.join(kinds)}")
    left = left_over(path.name)
    if left is not None and (kinds or is_binary(head.data)):
        raise ValueError(f"{path} {left}")
    if kinds:
        return kinds[0]
    foreign = foreign_file(path.name, head.data)
    if foreign is not None:
        raise ValueError(f"{path} {foreign}")
    formats = [find(kind) for kind in FORMATS]
    for hint in (one.hint_fn(head) for one in formats):
        if hint is not None:
            raise ValueError(f"{path} {hint}")
    if path.suffix.lower() in {suffix for one in formats for suffix in one.suffixes}:
        if (wrong := unread_picture(path.name, head.data)) is not None:
            raise ValueError(f"{path} {wrong}")
        what = (
            "is empty"
            if path.stat().st_size == 0
            else "is not what its name says, or of no kind read here"
        )
        raise ValueError(f"{path} {what}: expected {named_files()}")
    return None


def head_of(path: Path) -> Head:
    """Reads the beginning of a file, of a gzipped one that of its content."""
    with open_file(path) as raw:
        data = raw.read(HEAD_BYTES)
        if not data.startswith(GZIP_MAGIC):
            return Head(path, data, gzipped=False)
        raw.seek(0)
        return Head(path, gzip.GzipFile(fileobj=raw).read(HEAD_BYTES), gzipped=True)
