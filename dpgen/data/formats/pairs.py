"""The pairs of a tar shard: a picture, and the label beside it in a file, or in its folder."""

from __future__ import annotations

import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from dpgen.data.formats.labels import is_label_name, label_name
from dpgen.data.formats.location import is_hidden
from dpgen.data.formats.picture_files import SUFFIXES, check_beside_pictures, picture_format
from dpgen.data.formats.pictures import LARGEST_FILE
from dpgen.data.formats.sidecars import HEAD_BYTES, lists_pictures
from dpgen.data.formats.split_columns import refuse_flags, split_column
from dpgen.data.formats.splits import AMBIGUOUS, split_of
from dpgen.data.formats.unit_ids import check_unit_column, unit_id
from dpgen.storage.files import TEXT_BYTES, InPieces, open_file, parse_json

PICTURE_SUFFIXES = {suffix.removeprefix(".") for suffix in SUFFIXES}
NAME_BYTES = 200  # of a class name
BLOCK = 512


@dataclass(slots=True)
class Member:
    """A file of a shard that belongs to a record: where it lies, and the parts of its name."""

    name: PurePosixPath
    middle: str
    suffix: str
    place: tuple[int, int]


@dataclass(slots=True)
class Pair:
    """A record of a shard: where its picture lies (offset, size), and what stands beside it.

    labels: by the name of the member that gives each.
    split: that its JSON tells; "" for none.
    unread_split: what its JSON says where that is no split.
    label_key: the key of its JSON that holds the label, if one does.
    text: of its .txt, a label or a caption.
    keys: of its JSON, where none is a label.
    unit: the unit id in its JSON, if asked for.
    """

    key: str
    picture: tuple[int, int]
    labels: dict[str, int | str] = field(default_factory=dict)
    split: str = ""
    unread_split: str = ""
    label_key: str = ""
    text: str | None = None
    keys: tuple[str, ...] = ()
    unit: str | None = None


class Content(NamedTuple):
    """The content of a shard: its records, the names of the files that belong to none, and of those
    the ones that name several pictures.
    """

    pairs: list[Pair]
    others: list[str]
    lists: list[str]


class JsonKeys(NamedTuple):
    """The keys of the JSON beside a picture that were asked for by name.

    Args:
        label: of the label; where it is named nothing else holds one.
        unit: of the unit id.
    """

    label: str | None = None
    unit: str | None = None


def read_pairs(path: Path, asked: JsonKeys = JsonKeys()) -> Content:  # noqa: B008  immutable
    """Returns the records of one shard, in order, and the other files in it.

    A key ends at the first dot, as WebDataset has it. Where it would hold several pictures, each
    must have a label of its own up to the last dot. A cut shard, a link, a device, a name that
    leaves the folder and a picture of another format are errors.

    Args:
        path: of the shard.
        asked: keys of the JSON beside pictures.
    """
    groups: dict[str, list[Member]] = {}
    others: list[str] = []
    lone: list[Member] = []
    with open_file(path) as raw:
        for name, place in _members(path, raw):
            if any(map(is_hidden, name.parts)):
                others.append(str(name))
                continue
            stem, _, rest = name.name.partition(".")
            middle, _, suffix = rest.rpartition(".")
            member = Member(name, middle, suffix.lower(), place)
            if stem and _belongs(member, raw, path):
                groups.setdefault(str(name.with_name(stem)), []).append(member)
            else:
                lone.append(member)
        pairs = []
        for key, members in groups.items():
            for own, part in _records(key, members, path):
                pair = _pair(own, part, raw, path, asked)
                pairs += [] if pair is None else [pair]
                lone += part if pair is None else []
        lists = _lists(lone, groups, raw)
    return Content(pairs, others + [str(member.name) for member in lone], lists)


def _lists(lone: list[Member], groups: dict[str, list[Member]], raw: BinaryIO) -> list[str]:
    """Returns the names of the files of no record that name several pictures."""
    found = []
    known = {one.name.name for own in groups.values() for one in own} if lone else set()
    for member in lone:
        raw.seek(member.place[0])
        if lists_pictures(raw.read(min(member.place[1], HEAD_BYTES)), known):
            found.append(str(member.name))
    return found


def _members(path: Path, raw: BinaryIO) -> list[tuple[PurePosixPath, tuple[int, int]]]:
    """Returns the plain files of a shard, and where each lies."""
    found, end = [], 0
    try:
        with InPieces(path) as headers:
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
                if member.isfile():
                    found.append((name, (member.offset_data, member.size)))
            # tarfile takes a damaged header or a cut for the end: the end is a block of zeros.
            raw.seek(end)
            if raw.read(BLOCK) != bytes(BLOCK):
                raise ValueError(
                    f"{path} is damaged or truncated behind byte {end}: no end of archive there"
                )
    except (tarfile.TarError, EOFError, OverflowError, LookupError, RecursionError) as error:
        raise ValueError(f"{path} is damaged or truncated: {error}") from error
    return found


def _belongs(member: Member, raw: BinaryIO, path: Path) -> bool:
    """Returns whether a member is a picture or may be a label; a picture that is not read is
    refused.
    """
    suffix, (offset, size) = member.suffix, member.place
    label = suffix in ("json", "txt") or is_label_name(suffix)
    limit = LARGEST_FILE if suffix in PICTURE_SUFFIXES else TEXT_BYTES
    if label or suffix in PICTURE_SUFFIXES:
        if size > limit:
            raise ValueError(f"{path}: {member.name} must have at most {limit} bytes, got {size}")
        return True
    raw.seek(offset)
    head, place = raw.read(min(size, BLOCK)), f"{path}: {member.name}"
    found = picture_format(str(member.name), head)
    if found is not None and found.is_read:
        raise ValueError(
            f"{place} looks like a picture, {found.name}, and is not named so: rename it, or leave "
            "it out"
        )
    if is_label_name(member.middle):
        raise ValueError(
            f"{path}: {member.name} looks like a label, which is read from .cls, .json and .txt: "
            "save it so"
        )
    check_beside_pictures(str(member.name), head, place)
    return False


def _records(key: str, members: list[Member], path: Path) -> list[tuple[str, list[Member]]]:
    """Returns the members of a key, by record: one where it has one picture, else one per full
    name.
    """
    pictures = [member for member in members if member.suffix in PICTURE_SUFFIXES]
    if len(pictures) < 2:
        own = f"{key}.{pictures[0].middle}" if pictures and pictures[0].middle else key
        return [(own, members)]
    full: dict[str, list[Member]] = {}
    for member in members:
        full.setdefault(f"{key}.{member.middle}" if member.middle else key, []).append(member)
    for own, part in full.items():
        n_pictures = sum(member.suffix in PICTURE_SUFFIXES for member in part)
        if n_pictures > 1:
            raise ValueError(f"{path}: {own} must have one picture, got two")
        if n_pictures == 1 and len(part) == 1 or len(full) == 1:
            raise ValueError(
                f"{path}: {pictures[0].name} and {pictures[1].name} are pictures of one key, "
                f"{key}, which ends at the first dot: give each record one picture, and names "
                "without other dots"
            )
    return list(full.items())


def _pair(
    key: str, members: list[Member], raw: BinaryIO, path: Path, asked: JsonKeys
) -> Pair | None:  # fmt: skip
    picture = next((m.place for m in members if m.suffix in PICTURE_SUFFIXES), None)
    pair = Pair(key, picture or (0, 0))
    for member in members:
        if member.suffix in PICTURE_SUFFIXES:
            continue
        raw.seek(member.place[0])
        data = raw.read(member.place[1])
        if member.suffix == "json":
            _read_json(pair, member, data, path, asked)
        elif asked.label is not None:
            continue
        elif is_label_name(member.suffix) or is_label_name(member.middle):
            pair.labels[member.name.name] = stated_value(data, f"{path}: {member.name}")
        else:
            text = data.decode(errors="replace").strip()
            pair.text = text if pair.text is None else f"{pair.text} {text}"
    if picture is None and pair.labels:
        raise ValueError(f"{path}: {key} has a label and no picture (png, jpg)")
    return pair if picture else None


def stated_value(data: bytes, name: str) -> int | str:
    """Reads a label that stands alone in a file: a whole number, or the name of a class."""
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        text = ""
    if text.removeprefix("-").isdigit() and text.isascii():
        return int(text)
    if not text or len(data) > NAME_BYTES or not text.isprintable():
        raise ValueError(
            f"{name} must be a whole number or the name of a class, got {data[:40]!r}"
        )
    return text


def _read_json(
    pair: Pair, member: Member, data: bytes, path: Path, asked: JsonKeys
) -> None:  # fmt: skip
    name = f"{path}: {member.name}"
    try:  # other tools put more beside the label, with NaN for what they do not know
        table = parse_json(data.decode(), "it", finite=False)
    except ValueError as error:
        raise ValueError(f"{name} must be JSON, got {data[:40]!r} ({error!s:.100})") from None
    if isinstance(table, dict):
        others = list(table)
        if asked.unit is not None:
            check_unit_column(asked.unit, others, name)
            pair.unit = unit_id(table[asked.unit], name)
            others.remove(asked.unit)
        label = label_name(others, name, asked.label)
        refuse_flags((one for one in others if one != label), name)
        _read_split(pair, table, name)
        if label is None:
            pair.keys = tuple(table)
            return
        value, what = table[label], label
        pair.label_key = sys.intern(label)
    elif asked != JsonKeys():
        wanted = asked.label if asked.unit is None else asked.unit
        raise ValueError(f"{name} must be an object with the key {wanted!r:.60}")
    else:
        value, what = table, "label"
    if not isinstance(value, int | str):
        raise ValueError(
            f"{name} must have a whole number as {what}, got {value!r:.60}; the name of a class "
            "would do, too"
        )
    pair.labels[member.name.name] = value


def _read_split(pair: Pair, table: dict[str, Any], name: str) -> None:
    key = split_column(table, name)
    if key is None:
        return
    said = table[key]
    pair.split = split_of(said) if isinstance(said, str) else ""
    if pair.split in ("", AMBIGUOUS):
        pair.split, pair.unread_split = "", f"{said!r:.60}"
