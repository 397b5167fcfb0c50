"""A toy format of synthetic sets: a line of text an image."""

from __future__ import annotations

import numpy as np

from dpgen.data.formats.blocks import Pieces
from dpgen.data.formats.format import Format, Head, Writer
from dpgen.data.formats.location import Located
from dpgen.data.formats.records import Records, array_records
from dpgen.data.formats.shards import Shard, new_file, numbered
from dpgen.storage.files import read_bytes

MAGIC = "TOY OUT"


def recognise(head: Head) -> bool:
    return head.data.startswith(MAGIC.encode())


def read(
    located: Located, value_range: tuple[float, float] | None, classes: tuple[str, ...] | None
) -> Records:
    pixels, labels = [], []
    for file in located.chosen:
        first, *lines = read_bytes(file.path, 2**24).decode().splitlines()
        shape = tuple(int(word) for word in first.removeprefix(MAGIC).split())
        for line in lines:
            label, values = line.split()
            labels.append(int(label))
            pixels.append(np.frombuffer(bytes.fromhex(values), np.uint8).reshape(shape))
    assert located.class_names is not None
    found = np.array(labels, np.int64)
    return array_records("toy-out", np.stack(pixels), found, located.class_names, "toy-out")


def write(shard: Shard, pieces: Pieces) -> None:
    with new_file(shard.folder / f"images-{shard.number:05d}.toyout") as file:
        file.write(f"{MAGIC} {' '.join(map(str, shard.shape))}\n".encode())
        for _, pixels, label in numbered(shard, pieces):
            file.write(f"{label} {pixels.tobytes().hex()}\n".encode())


FORMAT = Format(
    (".toyout",), recognise, read, reads_class_list=True,
    writer=Writer(write, lambda raw: 2 * raw + 16, lists_classes=True),
)  # fmt: skip
