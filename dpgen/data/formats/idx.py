"""IDX, the format of MNIST: a header of big-endian sizes, then bytes; as it is or gzipped."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dpgen.data.formats.format import Format, Head
from dpgen.data.formats.labels import settled
from dpgen.data.formats.listing import units_by_index
from dpgen.data.formats.location import DataFile, Located
from dpgen.data.formats.records import (
    Records,
    array_records,
    as_labels,
    image_layout,
    require_memory,
)
from dpgen.storage.files import open_file, refuse_bomb


def recognise(head: Head) -> bool:
    """Returns whether a file begins like IDX of any type; ``idx_records`` takes unsigned bytes
    alone.
    """
    data = head.data
    return data[:2] == b"\0\0" and len(data) > 4 and 8 <= data[2] <= 14 and 1 <= data[3] <= 4


def idx_records(
    located: Located, value_range: tuple[float, float] | None, classes: tuple[str, ...] | None
) -> Records:
    """Reads pairs of images and labels files; no header says what classes there are.

    The pixels are held whole: IDX is a format of small sets.
    """
    pairs = _pairs(located)
    chosen = {file.path for file in located.chosen}
    labels = {image: as_labels(read_idx(label), str(label)) for image, label in pairs}
    pixels: list[np.ndarray] = []
    kept: list[np.ndarray] = []
    units: list[str] = []
    for image, label in pairs:
        if image not in chosen:
            continue
        array = read_idx(image)
        if array.ndim not in (3, 4):
            raise ValueError(
                f"{image} must hold (N, H, W) or (N, H, W, C), got shape {array.shape}"
            )
        array = array[..., None] if array.ndim == 3 else array
        if len(array) != len(labels[image]):
            raise ValueError(
                f"{image} must have one label per image, got {len(array)} images and "
                f"{len(labels[image])} labels in {label.name}"
            )
        if len(array):
            image_layout(array.shape, str(image))
        if pixels and array.shape[1:] != pixels[0].shape[1:]:
            raise ValueError(
                f"{image} must have the shape of the other split, got {array.shape[1:]}"
            )
        pixels.append(array)
        units += _units(located, image, len(array), alone=len(pairs) == 1)
        kept.append(labels[image])
    root = located.name
    found, names = settled(np.concatenate(kept), classes, name=root)
    whole = pixels[0] if len(pixels) == 1 else np.concatenate(pixels)
    held = array_records("idx", whole, found, names, root, classes_declared=True)
    return held if located.unit is None else replace(held, units=tuple(units))


def _units(located: Located, image: Path, n_records: int, *, alone: bool) -> tuple[str, ...]:
    if located.unit is None:
        return ()
    if not isinstance(located.unit, Path):
        raise ValueError(
            f"{located.root}: IDX files hold no unit ids, got {located.unit}: list them in a CSV "
            f"file with the columns index and {located.id_name}{'' if alone else ' and file_name'},"
            " and give --unit FILE.csv"
        )
    return units_by_index(
        located.unit, image, n_records, alone=alone, id_name=located.id_name
    )


def read_idx(path: Path) -> np.ndarray:
    """Reads one IDX file of unsigned bytes, exactly as long as its header says."""
    with open_file(path) as raw:
        size = os.fstat(raw.fileno()).st_size
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        return _read_unpacked(gzip.GzipFile(fileobj=raw) if packed else raw, size, path)


def _read_unpacked(file: BinaryIO | gzip.GzipFile, size: int, path: Path) -> np.ndarray:
    """Returns the array of an IDX stream whose file has ``size`` bytes."""
    try:
        with file:
            head = file.read(4)
            if len(head) < 4 or head[:2] != b"\0\0":
                raise ValueError(f"{path} must begin with an IDX header, got {head.hex(' ')!r}")
            if head[2] != 8:
                raise ValueError(
                    f"{path} must hold unsigned bytes (IDX type 8), got type {head[2]}"
                )
            if not 1 <= head[3] <= 4:
                raise ValueError(f"{path} must have 1 to 4 axes, got {head[3]}")
            sizes = file.read(4 * head[3])
            if len(sizes) < 4 * head[3]:
                raise ValueError(f"{path} is truncated within its header")
            shape = struct.unpack(f">{head[3]}I", sizes)
            promised = math.prod(shape)
            require_memory(promised, path, "is the header damaged?")
            refuse_bomb(promised, size, str(path), "is the header damaged? gunzip it if not")
            data = file.read(promised + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged or truncated: {error}") from error
    if len(data) != promised:
        amount = "more" if len(data) > promised else f"only {len(data)}"
        raise ValueError(f"{path} must hold the {promised} bytes its header promises, got {amount}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _pairs(located: Located) -> list[tuple[Path, Path]]:
    """Returns each images file with its labels file; a lone images file finds its labels beside it.
    """
    files = list(located.files)
    if len(files) == 1:
        beside = _label_name(files[0].path.name)
        files += [
            DataFile(path, "")
            for path in sorted(located.root.iterdir())
            if _plain(path.name) == _plain(beside)
        ]
    images: dict[str, Path] = {}
    labels: dict[str, Path] = {}
    for file in files:
        name = _plain(file.path.name)
        side = labels if "label" in name else images
        key = f"{file.split}/{name}"
        if key in side:
            raise ValueError(f"{file.path} and {side[key].name} are the same file twice: keep one")
        side[key] = file.path
    pairs = []
    for key, path in images.items():
        label = labels.pop(_label_name(key), None)
        if label is None:
            raise ValueError(
                f"{path} needs its labels beside it, {_label_name(path.name)}: not found"
            )
        pairs.append((path, label))
    if labels or not pairs:
        lone = next(iter(labels.values()))
        raise ValueError(f"{lone} needs its images beside it: not found")
    splits = [file.split for file in files if file.path in dict(pairs)]
    if len(splits) > len(set(splits)):
        raise ValueError(
            f"{located.root} must hold one images file per split, got "
            f"{sorted(p.name for p, _ in pairs)}"
        )
    return pairs


def _plain(name: str) -> str:
    return name.removesuffix(".gz").replace(".idx", "-idx")


def _label_name(name: str) -> str:
    return name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")


IDX = Format((".gz",), recognise, idx_records, takes_unit=True)
