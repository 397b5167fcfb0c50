"""WebDataset shards: tar files of pairs, a picture (png, jpg) and its label (cls, json)."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np

from dpgen.data.formats.blocks import Pieces
from dpgen.data.formats.format import Format, Head, Writer
from dpgen.data.formats.labels import settled
from dpgen.data.formats.location import CLASS_LIST, DataFile, Located
from dpgen.data.formats.pair_labels import pair_labels, passed_over
from dpgen.data.formats.pairs import BLOCK, JsonKeys, Pair, read_pairs
from dpgen.data.formats.pictures import decode_picture, encode_png, png_bytes
from dpgen.data.formats.records import Records
from dpgen.data.formats.shards import Shard, new_file, numbered
from dpgen.data.formats.splits import (
    AMBIGUOUS,
    choose,
    glued_splits,
    is_split_folder,
    split_of,
)
from dpgen.data.formats.unit_ids import unit_name
from dpgen.images.classes import NO_CLASSES
from dpgen.storage.files import open_file


def recognise(head: Head) -> bool:
    """Returns whether a file is an uncompressed tar."""
    return _is_tar(head) and not head.gzipped


def hint(head: Head) -> str | None:
    """Says how to make a compressed tar readable."""
    if _is_tar(head):
        return "is a compressed tar, which cannot be read in any order: gunzip it"
    return None


def _is_tar(head: Head) -> bool:
    return head.data[257:262] == b"ustar"


def archive_records(
    located: Located, value_range: tuple[float, float] | None, classes: tuple[str, ...] | None
) -> Records:
    """Reads the records of tar shards, in the order of file name and position, never extracted.

    Class names come from dataset.json beside the shards, else they are declared. Other members,
    such as captions, are passed over and told in ``passed_over``.
    """
    unit = unit_name(located, "tar shards stand in the .json of each picture, under a key")
    asked = JsonKeys(located.label_column, unit)
    pairs: list[tuple[DataFile, Pair]] = []
    others: list[tuple[Path, str]] = []
    lists: list[tuple[Path, str]] = []
    for file in located.files:
        content = read_pairs(file.path, asked)
        pairs += [(file, pair) for pair in content.pairs]
        others += [(file.path, name) for name in content.others]
        lists += [(file.path, name) for name in content.lists]
    bare = next((pair for _, pair in pairs if not pair.labels), None)
    if located.label_column is not None and bare is not None:
        raise ValueError(
            f"{located.name}: --label-column {located.label_column} names a key of the .json of "
            f"each picture, and {bare.key} has none"
        )
    lone = next((pair for _, pair in pairs if pair.unit is None), None)
    if unit is not None and lone is not None:
        raise ValueError(
            f"{located.name}: --unit {unit} names a key of the .json of each picture, and "
            f"{lone.key} has none: give it the id of its person"
        )
    read = _read(located, pairs)
    stated = located.class_names
    placed = [(file.path, pair) for file, pair in pairs]
    values = pair_labels(placed, stated or classes, others, lists)
    over = passed_over(placed, others, values)
    chosen = [(f.path, pair) for (f, pair), one in zip(pairs, read, strict=True) if one]

    def name_of(index: int) -> str:
        path, pair = chosen[index]
        return f"{path}: {pair.key}"

    def decode(index: int) -> np.ndarray:
        path, pair = chosen[index]
        offset, size = pair.picture
        with open_file(path) as shard:
            shard.seek(offset)
            return decode_picture(shard.read(size), name_of(index), value_range)

    units = None if unit is None else tuple(str(pair.unit) for _, pair in chosen)
    if values is None:
        return Records(
            "webdataset", np.zeros(len(chosen), np.int64), stated or NO_CLASSES, decode, name_of,
            units=units, passed_over=over,
        )  # fmt: skip
    labels, names = settled(
        values, classes, name=located.name, stated=stated,
        place=f"class_names in {CLASS_LIST}",
    )  # fmt: skip
    kept = labels[np.array(read, bool)]
    return Records(
        "webdataset", kept, names, decode, name_of, classes_declared=stated is None, units=units,
        passed_over=over,
    )  # fmt: skip


def _read(located: Located, pairs: list[tuple[DataFile, Pair]]) -> list[bool]:
    """Returns which records are of the split that is read."""
    glued = glued_splits({part for _, pair in pairs for part in pair.key.split("/")})
    splits = [
        file.split or pair.split or _split_in(pair.key) or _only(pair.key, glued)
        for file, pair in pairs
    ]
    if located.split == "all":
        return [True] * len(pairs)
    for file, pair in pairs:
        if pair.unread_split:
            raise ValueError(
                f"{file.path}: {pair.key} must be for train, validation or test, its JSON says "
                f"{pair.unread_split}: correct it, or read everything with --split all"
            )
        if file.split and pair.split not in ("", file.split):
            raise ValueError(
                f"{file.path} is named for {file.split}, and the JSON of {pair.key} says "
                f"{pair.split}: correct one of them, or read everything with --split all"
            )
    if not any(splits):
        return [True] * len(pairs)
    files = [
        DataFile(file.path / pair.key, split)
        for (file, pair), split in zip(pairs, splits, strict=True)
    ]
    chosen = {file.path for file in choose(files, located.split, located.root)}
    return [file.path in chosen for file in files]


def _split_in(key: str) -> str:
    """Returns the split that the folders of a key tell, else its name."""
    *folders, name = key.split("/")
    told = {split_of(folder) for folder in folders if is_split_folder(folder)}
    if told:
        return told.pop() if len(told) == 1 else AMBIGUOUS
    last = folders[-1].lower() if folders else ""
    return split_of(name[len(last) :] if last and name.lower().startswith(last) else name)


def _only(key: str, glued: dict[str, str]) -> str:
    """Returns the split that parts of a key tell by a word glued to another."""
    told = {glued[part] for part in key.split("/") if part in glued}
    return told.pop() if len(told) == 1 else AMBIGUOUS if told else ""


def write_webdataset(shard: Shard, pieces: Pieces) -> None:
    """Writes ``shard-000000.tar`` of pairs ``000000.png``, ``000000.cls`` (the label as a number).
    """
    with new_file(shard.folder / f"shard-{shard.number:06d}.tar") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for index, pixels, label in numbered(shard, pieces):
                for suffix, data in (("png", encode_png(pixels)), ("cls", str(label).encode())):
                    member = tarfile.TarInfo(f"{index:0{shard.digits}d}.{suffix}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))


WEBDATASET = Format(
    (".tar", ".tgz"), recognise, archive_records, takes_value_range=True, takes_unit=True,
    whole_files=True, takes_label_column=True, reads_class_list=True, hint_fn=hint,
    writer=Writer(write_webdataset, lambda raw: png_bytes(raw) + 5 * BLOCK, lists_classes=True),
)  # fmt: skip
