"""Layouts of a synthetic set on disk: how one shard of images is written in each format."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dpgen.data.formats.blocks import Pieces
from dpgen.data.formats.location import CLASS_LIST_SCHEMA
from dpgen.data.formats.npz import npy_header
from dpgen.data.formats.pictures import encode_png

BLOCK_BYTES = 4096  # what a file system gives a file at least
TAR_BYTES = 512
_UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f]|^\.|^ |[. ]$')
_DEVICES = {"con", "prn", "aux", "nul"}


@dataclass(frozen=True)
class Shard:
    """One shard to write.

    Args:
        folder: the root of the set.
        number: its position among ``n_shards``.
        start: number of its first image in the whole set.
        n_images: how many images it takes.
        shape: (H, W, C).
        class_names: in label order.
        digits: how many digits number an image.
    """

    folder: Path
    number: int
    n_shards: int
    start: int
    n_images: int
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    digits: int


def write_folder(shard: Shard, pieces: Pieces) -> None:
    """``<class>/000000.png``, numbered through the whole set.

    The caller syncs: a call per file takes minutes.
    """
    for index, pixels, label in _numbered(shard, pieces):
        path = shard.folder / shard.class_names[label] / f"{index:0{shard.digits}d}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode_png(pixels))


def write_npz(shard: Shard, pieces: Pieces) -> None:
    """``images-00000.npz``: ``images`` uint8 NHWC, ``labels`` int64, ``class_names`` text.

    Uncompressed, so that a reader can map it.
    """
    labels = []
    with _synced(shard.folder / f"images-{shard.number:05d}.npz") as file:
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


def write_parquet(shard: Shard, pieces: Pieces) -> None:
    """``train-00000-of-00002.parquet``: `image` {bytes, path} and `label`, a ClassLabel."""
    from dpgen.data.formats.parquet import image_schema, picture_table, pyarrow_parquet

    schema = image_schema(shard.class_names)
    path = shard.folder / f"train-{shard.number:05d}-of-{shard.n_shards:05d}.parquet"
    start = shard.start
    with _synced(path) as file, pyarrow_parquet().ParquetWriter(file, schema) as writer:
        for pixels, labels in pieces:
            names = [f"{start + i:0{shard.digits}d}.png" for i in range(len(labels))]
            writer.write_table(picture_table(schema, map(encode_png, pixels), names, labels))
            start += len(labels)


def write_webdataset(shard: Shard, pieces: Pieces) -> None:
    """``shard-000000.tar`` of pairs ``000000.png``, ``000000.cls`` (the label as a number)."""
    with _synced(shard.folder / f"shard-{shard.number:06d}.tar") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for index, pixels, label in _numbered(shard, pieces):
                for suffix, data in (("png", encode_png(pixels)), ("cls", str(label).encode())):
                    member = tarfile.TarInfo(f"{index:0{shard.digits}d}.{suffix}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))


@dataclass(frozen=True)
class Layout:
    """A format: its writer, an image's most bytes on disk, if dataset.json lists the classes."""

    write_fn: Callable[[Shard, Pieces], None]
    image_bytes_fn: Callable[[int], int]
    lists_classes: bool


def _png_bytes(raw: int) -> int:
    return (
        raw + raw // 100 + 256
    )  # noise does not shrink: PNG adds filter bytes, chunks and zlib's own


LAYOUTS = {
    "folder": Layout(
        write_folder, lambda raw: -(-_png_bytes(raw) // BLOCK_BYTES) * BLOCK_BYTES, True
    ),
    "npz": Layout(write_npz, lambda raw: raw + 8, False),
    "parquet": Layout(write_parquet, lambda raw: _png_bytes(raw) + 64, False),
    "webdataset": Layout(write_webdataset, lambda raw: _png_bytes(raw) + 5 * TAR_BYTES, True),
}


def class_list(class_names: tuple[str, ...]) -> bytes:
    """dataset.json: the class names in label order, which folders and numbers alone do not keep."""
    table = {"schema": CLASS_LIST_SCHEMA, "class_names": list(class_names)}
    return (json.dumps(table, indent=2, ensure_ascii=False) + "\n").encode()


def check_folder_names(class_names: tuple[str, ...]) -> None:
    """Refuses class names that cannot be folder names on every system, or would share one."""
    seen: dict[str, str] = {}
    cure = "rename the class, or choose another format than folder"
    for name in class_names:
        if (
            _UNSAFE.search(name)
            or name.split(".")[0].casefold() in _DEVICES
            or len(name.encode()) > 255
        ):
            raise ValueError(f"class_names must be safe as folder names, got {name!r}: {cure}")
        folded = unicodedata.normalize("NFC", name).casefold()
        if folded in seen:
            raise ValueError(
                f"class_names must differ in more than case, got {seen[folded]!r} and {name!r}: "
                f"{cure}"
            )
        seen[folded] = name
    if {"train", "test"} <= set(class_names):
        raise ValueError(f"class_names must not be train and test, which name splits: {cure}")
    if "__MACOSX" in class_names:
        raise ValueError(f"class_names must not hold '__MACOSX', which readers pass over: {cure}")


def _numbered(shard: Shard, pieces: Pieces) -> Iterator[tuple[int, np.ndarray, int]]:
    index = shard.start
    for pixels, labels in pieces:
        for i, label in enumerate(labels.tolist()):
            yield index, pixels[i], label
            index += 1


@contextmanager
def _synced(path: Path) -> Iterator[BinaryIO]:
    """A new file whose bytes are on the disk when the block ends well."""
    with path.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
