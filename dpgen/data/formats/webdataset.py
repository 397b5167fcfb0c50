"""WebDataset shards: tar files of pairs, a picture (png, jpg) and its label (cls, json)."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np

from dpgen.data.formats.blocks import Pieces
from dpgen.data.formats.format import Format, Head, Writer
from dpgen.data.formats.location import CLASS_LIST, Located
from dpgen.data.formats.picture_files import SUFFIXES, may_be_passed_over, unread_picture
from dpgen.data.formats.pictures import LARGEST_FILE, decode_picture, encode_png, png_bytes
from dpgen.data.formats.records import Records, as_labels
from dpgen.data.formats.shards import Shard, new_file, numbered
from dpgen.images.classes import NO_CLASSES, settle_classes
from dpgen.storage.files import TEXT_BYTES, InPieces, open_file, parse_json

PICTURE_SUFFIXES = {suffix.removeprefix(".") for suffix in SUFFIXES}
LABEL_FORMS = {"cls": "a whole number", "json": "JSON"}
BLOCK = 512


@dataclass
class Pair:
    """What one key of a shard holds: where its picture lies (offset, size) and its label."""

    key: str
    picture: tuple[int, int] | None = None
    labels: dict[str, int] = field(default_factory=dict)
    other: str | None = None  # the first member that is neither of these nor text


def recognise(head: Head) -> bool:
    """Whether a file is an uncompressed tar."""
    return _is_tar(head) and not head.gzipped


def hint(head: Head) -> str | None:
    """The cure for a tar that is compressed."""
    if _is_tar(head):
        return "is a compressed tar, which cannot be read in any order: gunzip it"
    return None


def _is_tar(head: Head) -> bool:
    return head.data[257:262] == b"ustar"


def archive_records(
    located: Located, value_range: tuple[float, float] | None, classes: tuple[str, ...] | None
) -> Records:
    """Records of tar shards, in the order of file name and position, never extracted.

    Class names come from dataset.json beside the shards, else they are declared. Other members of a
    key, such as captions, belong to no record and are passed over.
    """
    chosen = {file.path for file in located.chosen}
    places: list[tuple[Path, str, int, int]] = []
    labels: list[int | None] = []
    for file in located.files:
        for pair in read_pairs(file.path):
            label = pair.labels.get("cls", pair.labels.get("json"))
            if file.path in chosen and pair.picture is not None:
                places.append((file.path, pair.key, *pair.picture))
                labels.append(label)

    def name_of(index: int) -> str:
        return f"{places[index][0]}: {places[index][1]}"

    def decode(index: int) -> np.ndarray:
        path, _, offset, size = places[index]
        with open_file(path) as shard:
            shard.seek(offset)
            return decode_picture(shard.read(size), name_of(index), value_range)

    missing = [label is None for label in labels]
    if any(missing) and not all(missing):
        raise ValueError(
            f"{name_of(missing.index(True))} must have a label, .cls or .json, like the other "
            "records"
        )
    if all(missing):
        return Records(
            "webdataset",
            np.zeros(len(places), np.int64),
            located.class_names or NO_CLASSES,
            decode,
            name_of,
        )
    root, stated = str(located.root), located.class_names
    found = as_labels(labels, root)
    names = settle_classes(stated, classes, name=root, place=f"class_names in {CLASS_LIST}")
    return Records(
        "webdataset", found, names, decode, name_of, classes_declared=stated is None
    )


def read_pairs(path: Path) -> list[Pair]:
    """The keys of one shard in order.

    A cut shard, a link, a device and a name that leaves the folder are errors.
    """
    pairs: dict[str, Pair] = {}
    end = 0
    try:
        with InPieces(path) as headers, open_file(path) as raw:
            archive = tarfile.open(fileobj=headers, mode="r:")
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # tarfile keeps all of them
                if member.size < 0:
                    raise ValueError(f"{path} is damaged: {member.name} has {member.size} bytes")
                name = PurePosixPath(member.name)
                if name.is_absolute() or ".." in name.parts:
                    raise ValueError(f"{path} must hold relative names only, got {member.name!r}")
                if member.issparse() or not (member.isfile() or member.isdir()):
                    raise ValueError(
                        f"{path} must hold plain files only, {member.name!r} is a link or a device"
                    )
                end = member.offset_data + -(-member.size // BLOCK) * BLOCK
                stem, _, suffix = name.name.partition(".")
                if member.isdir() or not stem:
                    continue
                key = str(name.with_name(stem))
                pair = pairs.setdefault(key, Pair(key))
                _add(pair, suffix.lower(), member, raw, path)
            # tarfile takes a damaged header or a cut for the end: the end is a block of zeros.
            raw.seek(end)
            if raw.read(BLOCK) != bytes(BLOCK):
                raise ValueError(
                    f"{path} is damaged or truncated behind byte {end}: no end of archive there"
                )
    except (tarfile.TarError, EOFError, OverflowError, LookupError, RecursionError) as error:
        raise ValueError(f"{path} is damaged or truncated: {error}") from error
    for pair in pairs.values():
        if pair.picture is None and pair.other is not None:
            raise ValueError(
                f"{path}: {pair.other} must belong to a picture, and its key {pair.key} has none "
                "that is read: convert it or leave it out"
            )
        if pair.picture is None and pair.labels:
            raise ValueError(f"{path}: {pair.key} has a label and no picture (png, jpg)")
    return list(pairs.values())


def _add(pair: Pair, suffix: str, member: tarfile.TarInfo, raw: BinaryIO, path: Path) -> None:
    limit = LARGEST_FILE if suffix in PICTURE_SUFFIXES else TEXT_BYTES
    if suffix in {*PICTURE_SUFFIXES, *LABEL_FORMS} and member.size > limit:
        raise ValueError(
            f"{path}: {member.name} must have at most {limit} bytes, got {member.size}"
        )
    if suffix in PICTURE_SUFFIXES:
        if pair.picture is not None:
            raise ValueError(f"{path}: {pair.key} must have one picture, got two")
        pair.picture = (member.offset_data, member.size)
    if suffix not in LABEL_FORMS:
        raw.seek(member.offset_data)
        wrong = unread_picture(member.name, raw.read(min(member.size, BLOCK)))
        if wrong is not None:
            raise ValueError(f"{path}: {member.name} {wrong}")
        if not may_be_passed_over(member.name):
            pair.other = pair.other or member.name
        return
    raw.seek(member.offset_data)
    data = raw.read(member.size)
    try:
        if suffix == "cls":
            value: Any = int(data)
        else:  # other tools put more beside the label, with NaN for what they do not know
            value = parse_json(data.decode(), "it", finite=False)
    except ValueError as error:
        raise ValueError(
            f"{path}: {member.name} must be {LABEL_FORMS[suffix]}, got {data[:40]!r} "
            f"({error!s:.100})"
        ) from None
    if suffix == "json":
        if not isinstance(value, dict) or "label" not in value:
            return
        value = value["label"]
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(
                f"{path}: {member.name} must have a whole number as label, got {value!r:.60}"
            )
    pair.labels[suffix] = value


def write_webdataset(shard: Shard, pieces: Pieces) -> None:
    """``shard-000000.tar`` of pairs ``000000.png``, ``000000.cls`` (the label as a number)."""
    with new_file(shard.folder / f"shard-{shard.number:06d}.tar") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for index, pixels, label in numbered(shard, pieces):
                for suffix, data in (("png", encode_png(pixels)), ("cls", str(label).encode())):
                    member = tarfile.TarInfo(f"{index:0{shard.digits}d}.{suffix}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))


WEBDATASET = Format(
    (".tar", ".tgz"), recognise, archive_records, takes_value_range=True, reads_class_list=True,
    hint_fn=hint,
    writer=Writer(write_webdataset, lambda raw: png_bytes(raw) + 5 * BLOCK, lists_classes=True),
)  # fmt: skip
