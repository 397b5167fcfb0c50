"""The arrays of an npz archive one by one, in NumPy's own format; never a pickle."""

from __future__ import annotations

import io
import math
import struct
import tokenize
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from dpgen.data.formats.records import require_memory
from dpgen.storage.files import open_file, refuse_bomb

MAPPED_BYTES = 2**30  # arrays above this stay on disk where the archive stores them uncompressed
HEADER_BYTES = 10_000  # of an array's header, which is one short line


def read_array(archive: zipfile.ZipFile, key: str, path: Path) -> np.ndarray:
    """Reads one array; its header is held against the size of the file before anything is
    allocated.
    """
    info = archive.getinfo(f"{key}.npy")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{path}: {key} must be stored or deflated, as numpy.savez does it")
    with archive.open(info) as file:
        _check_header_length(file.read(12), f"{path}: {key}")
    with archive.open(info) as file:
        shape, fortran, dtype = _read_header(file, f"{path}: {key}")
        start, promised = file.tell(), math.prod(shape) * dtype.itemsize
        if info.file_size - start != promised:
            raise ValueError(
                f"{path}: {key} must hold the {promised} bytes its header promises, got "
                f"{info.file_size - start}"
            )
        if promised > MAPPED_BYTES and info.compress_type == zipfile.ZIP_STORED and not fortran:
            while file.read(2**24):  # to the end: there the zip checksum is compared
                pass
            return np.memmap(path, dtype, "r", _data_offset(path, info) + start, shape)
        cure = "save it uncompressed (numpy.savez), it is then read lazily"
        require_memory(promised, path, cure)
        refuse_bomb(promised, info.compress_size, f"{path}: {key}", cure)
        data = file.read()
    if len(data) != promised:
        raise ValueError(f"{path}: {key} is truncated: {len(data)} of {promised} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _read_header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, fortran, dtype = read[version](file)
    except (
        ValueError, TypeError, LookupError, SyntaxError, OverflowError, RecursionError, MemoryError,
        AttributeError, tokenize.TokenError,
    ) as error:  # fmt: skip
        raise ValueError(f"{name} must be a plain array: {error!s:.200}") from error
    if dtype.hasobject:
        raise ValueError(f"{name} must hold numbers, got pickled objects, which are never loaded")
    if dtype.kind not in "biufcSU" or not dtype.itemsize or min(shape, default=0) < 0:
        raise ValueError(f"{name} must hold numbers, got {dtype} of shape {shape}")
    return shape, fortran, dtype


def _check_header_length(head: bytes, name: str) -> None:
    """Refuses a header that announces more than it can need; NumPy would read all of it first."""
    length = int.from_bytes(head[8 : 10 if head[6:7] == b"\1" else 12], "little")
    if length > HEADER_BYTES:
        raise ValueError(f"{name} must have a header of at most {HEADER_BYTES} bytes, got {length}")


def _data_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Finds where the bytes of a stored member begin: after a local header of varying length."""
    with open_file(path) as file:
        file.seek(info.header_offset + 26)
        lengths = struct.unpack("<HH", file.read(4))
    return info.header_offset + 30 + int(sum(lengths))


def npy_header(shape: tuple[int, ...], dtype: str) -> bytes:
    """Returns the header of an .npy file, for writing an array piece by piece."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()
