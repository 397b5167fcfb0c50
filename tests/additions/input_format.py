"""A toy format that is only read: sizes, grey pixels and labels, a byte each."""

from __future__ import annotations

import numpy as np

from dpgen.data.formats.format import Format, Head
from dpgen.data.formats.location import Located
from dpgen.data.formats.records import Records, array_records
from dpgen.images.classes import settle_classes
from dpgen.storage.files import read_bytes

MAGIC = b"TOY IN"


def to_bytes(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    """The file of uint8 (N, H, W) and labels, all below 256."""
    return MAGIC + bytes(pixels.shape) + pixels.tobytes() + labels.astype(np.uint8).tobytes()


def recognise(head: Head) -> bool:
    return head.data.startswith(MAGIC)


def read(
    located: Located, value_range: tuple[float, float] | None, classes: tuple[str, ...] | None
) -> Records:
    (file,) = located.chosen
    data = read_bytes(file.path, 2**20)[len(MAGIC) :]
    n, height, width = data[:3]
    values = np.frombuffer(data[3:], np.uint8)
    pixels, labels = values[:-n].reshape(n, height, width, 1), values[-n:].astype(np.int64)
    names = settle_classes(None, classes, name=str(file.path))
    return array_records("toy-in", pixels, labels, names, str(file.path), classes_declared=True)


FORMAT = Format((".toyin",), recognise, read)
