"""Shards of a synthetic set: the input of a format's writer, and code that all writers share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dpgen.data.formats.blocks import Pieces


@dataclass(frozen=True)
class Shard:
    """One shard to write.

    Args:
        folder: the root of the set.
        number: its position among ``n_shards``.
        start: number of its first image in the whole set.
        n_images: number of its images.
        shape: (H, W, C).
        class_names: names of the classes, in label order.
        digits: number of digits in an image's number.
    """

    folder: Path
    number: int
    n_shards: int
    start: int
    n_images: int
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    digits: int


def numbered(shard: Shard, pieces: Pieces) -> Iterator[tuple[int, np.ndarray, int]]:
    """Yields the images of a shard one by one: number in the whole set, uint8 (H, W, C), label."""
    index = shard.start
    for pixels, labels in pieces:
        for i, label in enumerate(labels.tolist()):
            yield index, pixels[i], label
            index += 1


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a new file whose bytes are on the disk when the block ends without an error."""
    with path.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_new(path: str, data: bytes) -> None:
    """Writes a new small file by the calls that it needs and no others; the caller syncs."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    finally:
        os.close(descriptor)
