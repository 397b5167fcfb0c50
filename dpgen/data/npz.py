"""NumPy archives of `images` (or `arr_0`), `labels`, `class_names`, in shards; never a pickle."""

from __future__ import annotations

import bisect
import io
import itertools
import math
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from dpgen.data.location import Located
from dpgen.data.records import (
    Records,
    array_records,
    as_labels,
    as_pixels,
    image_layout,
    numbered_classes,
    require_memory,
)

MAPPED_BYTES = 2**30  # images above this stay on disk where the archive stores them uncompressed
IMAGE_KEYS = ("images", "arr_0")
LABEL_KEYS = ("labels", "arr_1")


@dataclass(frozen=True)
class Shard:
    """What one archive holds: ``pixels`` uint8 (N, H, W, C), ``labels`` int64 (N,), if any."""

    path: Path
    pixels: np.ndarray | None
    labels: np.ndarray | None
    class_names: tuple[str, ...] | None


def npz_records(located: Located, value_range: tuple[float, float] | None) -> Records:
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
    found = [shard.labels for shard in shards if shard.labels is not None]
    names = first.class_names or (numbered_classes(np.concatenate(found), root) if found else None)
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
        return array_records("npz", whole, kept, names or ("all",), root)
    ends = list(itertools.accumulate(len(array) for array in arrays))

    def decode(index: int) -> np.ndarray:
        shard = bisect.bisect_right(ends, index)
        return np.asarray(arrays[shard][index - ends[shard]])  # counted from the shard's end

    return Records("npz", kept, names or ("all",), decode, lambda i: f"{root} record {i}")


def read_shard(path: Path, value_range: tuple[float, float] | None, with_pixels: bool) -> Shard:
    """Reads and checks one archive; ``with_pixels`` False leaves the images where they are."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            unknown = sorted(set(names) - {*IMAGE_KEYS, *LABEL_KEYS, "class_names"})
            images = [key for key in IMAGE_KEYS if key in names]
            labels = [key for key in LABEL_KEYS if key in names]
            if len(images) != 1 or len(labels) > 1 or unknown:
                raise ValueError(
                    f"{path} must hold images or arr_0, and at most labels and class_names, got "
                    f"{sorted(names)}"
                )
            found = as_labels(_read(archive, labels[0], path), str(path)) if labels else None
            classes = _read(archive, "class_names", path) if "class_names" in names else None
            pixels = _images(archive, images[0], path, value_range) if with_pixels else None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged or truncated: {error}") from error
    if classes is not None and (classes.ndim != 1 or classes.dtype.kind != "U"):
        raise ValueError(
            f"{path}: class_names must be a list of text, got {classes.dtype} {classes.shape}"
        )
    if found is not None and pixels is not None and len(found) != len(pixels):
        raise ValueError(
            f"{path} must hold one label per image, got {len(pixels)} images and {len(found)} "
            "labels"
        )
    return Shard(path, pixels, found, None if classes is None else tuple(classes.tolist()))


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
        require_memory(promised, path, "save it uncompressed (numpy.savez), it is then read lazily")
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
    except (ValueError, KeyError, SyntaxError) as error:
        raise ValueError(f"{name} must be a plain array: {error}") from error
    if dtype.hasobject:
        raise ValueError(f"{name} must hold numbers, got pickled objects, which are never loaded")
    return shape, fortran, dtype


def _data_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Where the bytes of a stored member begin: after a local header of varying length."""
    with path.open("rb") as file:
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
