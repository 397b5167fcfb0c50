"""NumPy archives of `images` (or `arr_0`), `labels`, `class_names`, in shards; never a pickle."""

from __future__ import annotations

import bisect
import errno
import io
import itertools
import math
import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from dpgen.data.formats.blocks import Pieces
from dpgen.data.formats.format import Format, Head, Writer
from dpgen.data.formats.location import Located
from dpgen.data.formats.records import (
    Records,
    array_records,
    as_labels,
    as_pixels,
    image_layout,
    require_memory,
)
from dpgen.data.formats.shards import Shard, new_file
from dpgen.images.classes import MAX_CLASSES, NO_CLASSES, settle_classes
from dpgen.storage.files import InPieces, open_file, refuse_bomb

MAPPED_BYTES = 2**30  # images above this stay on disk where the archive stores them uncompressed
IMAGE_KEYS = ("images", "arr_0")
LABEL_KEYS = ("labels", "arr_1")
ZIP_MAGIC = b"PK\x03\x04"
HEADER_BYTES = 10_000  # of an array's header, which is one short line
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    RuntimeError,
    OverflowError,
    LookupError,
)


@dataclass(frozen=True)
class Archive:
    """One archive: ``pixels`` uint8 (N, H, W, C), ``labels`` int64 (N,), if any."""

    path: Path
    pixels: np.ndarray | None
    labels: np.ndarray | None
    class_names: tuple[str, ...] | None


def recognise(head: Head) -> bool:
    """Whether a file is a zip of arrays alone; one called .zip is no npz whatever it holds."""
    if head.path.suffix.lower() == ".zip" or not head.data.startswith(ZIP_MAGIC):
        return False
    names = _names(head.path)
    return bool(names) and all(name.endswith(".npy") for name in names)


def hint(head: Head) -> str | None:
    """What is wrong with a zip that is no npz."""
    suffix = head.path.suffix.lower()
    if suffix not in (".zip", ".npz") or not head.data.startswith(ZIP_MAGIC):
        return None
    if suffix == ".zip":
        return "is a zip archive: unpack it and point at the folder"
    return f"must hold arrays (.npy) only, got {_names(head.path)[:3]!s:.200}"


def _names(path: Path) -> list[str]:
    with InPieces(path) as file, zipfile.ZipFile(file) as archive:
        return archive.namelist()


def npz_records(
    located: Located, value_range: tuple[float, float] | None, classes: tuple[str, ...] | None
) -> Records:
    """Reads archives of uint8 (N, H, W) or (N, H, W, C); floats by their value range.

    Uncompressed archives above 1 GiB are mapped, not loaded. Without labels every label is 0.
    """
    chosen = {file.path for file in located.chosen}
    shards = [read_shard(file.path, value_range, file.path in chosen) for file in located.files]
    first = shards[0]
    for shard in shards:
        if shard.class_names != first.class_names:
            raise ValueError(
                f"{shard.path} must have the class names of {first.path.name}, got others"
            )
        if (shard.labels is None) != (first.labels is None):
            raise ValueError(
                f"{shard.path} and {first.path.name}: one has labels and the other has none"
            )
    root = str(located.root)
    names = first.class_names or NO_CLASSES
    declared = first.class_names is None and first.labels is not None
    if declared:
        names = settle_classes(None, classes, name=root, place="class_names in the archive")
    arrays: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for shard in shards:
        if shard.pixels is None:
            continue
        if arrays and shard.pixels.shape[1:] != arrays[0].shape[1:]:
            raise ValueError(f"{shard.path} must have the image shape of the other archives")
        arrays.append(shard.pixels)
        labels.append(np.zeros(len(shard.pixels), int) if shard.labels is None else shard.labels)
    kept = np.concatenate(labels)
    if len(arrays) == 1 or sum(a.nbytes for a in arrays) <= MAPPED_BYTES:
        whole = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        return array_records("npz", whole, kept, names, root, classes_declared=declared)
    ends = list(itertools.accumulate(len(array) for array in arrays))

    def decode(index: int) -> np.ndarray:
        shard = bisect.bisect_right(ends, index)
        return np.asarray(arrays[shard][index - ends[shard]])  # counted from the shard's end

    return Records(
        "npz", kept, names, decode, lambda i: f"{root} record {i}", classes_declared=declared
    )


def read_shard(
    path: Path, value_range: tuple[float, float] | None, with_pixels: bool
) -> Archive:
    """Reads and checks one archive; ``with_pixels`` False leaves the images where they are."""
    try:
        with InPieces(path) as file, zipfile.ZipFile(file) as archive:
            file.limit = None  # the directory is read, what follows is held against its headers
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            if len(set(names)) < len(names):
                raise ValueError(f"{path} must hold each array once, got {sorted(names)!s:.200}")
            unknown = sorted(set(names) - {*IMAGE_KEYS, *LABEL_KEYS, "class_names"})
            images = [key for key in IMAGE_KEYS if key in names]
            labels = [key for key in LABEL_KEYS if key in names]
            if len(images) != 1 or len(labels) > 1 or unknown:
                raise ValueError(
                    f"{path} must hold images or arr_0, and at most labels and class_names, got "
                    f"{sorted(names)!s:.200}"
                )
            found = as_labels(_read(archive, labels[0], path), str(path)) if labels else None
            classes = _read(archive, "class_names", path) if "class_names" in names else None
            pixels = _images(archive, images[0], path, value_range) if with_pixels else None
    except (OSError, *_UNREADABLE) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # of the machine; EINVAL is a place before the start of the file
        raise ValueError(f"{path} is damaged or truncated: {error}") from error
    if classes is not None and (
        classes.ndim != 1 or classes.dtype.kind != "U" or len(classes) > MAX_CLASSES
    ):
        raise ValueError(
            f"{path}: class_names must be a list of text, {MAX_CLASSES} at most, got "
            f"{classes.dtype} {classes.shape}"
        )
    if found is not None and pixels is not None and len(found) != len(pixels):
        raise ValueError(
            f"{path} must hold one label per image, got {len(pixels)} images and {len(found)} "
            "labels"
        )
    return Archive(path, pixels, found, None if classes is None else _texts(classes, path))


def _texts(array: np.ndarray, path: Path) -> tuple[str, ...]:
    try:
        return tuple(array.tolist())
    except (ValueError, SystemError) as error:  # numbers that are no letters
        raise ValueError(f"{path}: class_names must be text: {error}") from None


def _images(
    archive: zipfile.ZipFile, key: str, path: Path, value_range: tuple[float, float] | None
) -> np.ndarray:
    array = _read(archive, key, path)
    if array.ndim not in (3, 4):
        raise ValueError(
            f"{path}: {key} must be (N, H, W) or (N, H, W, C), got shape {array.shape}"
        )
    array = array[..., None] if array.ndim == 3 else array
    if len(array):
        image_layout(array.shape, f"{path}: {key}")
    return as_pixels(array, f"{path}: {key}", value_range)


def _read(archive: zipfile.ZipFile, key: str, path: Path) -> np.ndarray:
    """One array; its header is held against the size of the file before anything is allocated."""
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
    """The header of an .npy file, for writing an array piece by piece."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


def write_npz(shard: Shard, pieces: Pieces) -> None:
    """``images-00000.npz``: ``images`` uint8 NHWC, ``labels`` int64, ``class_names`` text.

    Uncompressed, so that a reader can map it.
    """
    labels = []
    with new_file(shard.folder / f"images-{shard.number:05d}.npz") as file:
        with zipfile.ZipFile(file, "w") as archive:
            with archive.open(zipfile.ZipInfo("images.npy"), "w", force_zip64=True) as member:
                member.write(npy_header((shard.n_images, *shard.shape), "|u1"))
                for pixels, found in pieces:
                    member.write(np.ascontiguousarray(pixels).data)
                    labels.append(found)
            for name, array in (
                ("labels.npy", np.concatenate(labels)),
                ("class_names.npy", np.array(shard.class_names)),
            ):
                with archive.open(zipfile.ZipInfo(name), "w") as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)


NPZ = Format(
    (".npz", ".npy", ".zip"), recognise, npz_records, takes_value_range=True, hint_fn=hint,
    writer=Writer(write_npz, lambda raw: raw + 8),
)  # fmt: skip
