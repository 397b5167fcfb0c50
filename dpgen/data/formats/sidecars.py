"""Texts beside pictures which may hold their labels and are read by nothing here: tables, and
sidecars of the same name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path

from dpgen.data.formats.listing import TABLES
from dpgen.data.formats.location import CLASS_LIST
from dpgen.data.formats.splits import splits_in, words
from dpgen.storage.files import open_file

_LISTS = {
    "labels", "label", "annotations", "split", "splits", "metadata", "instances", "coco", "truth",
    "groundtruth", "gt", "identity", "identities", "attr", "attrs", "attributes", "targets",
    "target", "bbox", "bboxes",
}  # fmt: skip
_TEXTS = (".txt", ".lst", ".list", ".json", ".yaml", ".yml", ".xml", ".toml", ".dat", "")
_WORD = re.compile(r"[^\s,;|:\"'<>()\[\]{}=]+")
_NUMBER = re.compile(r"[-+]?[0-9]*\.?[0-9]*(?:[eE][-+]?[0-9]+)?,?")
STRUCTURED = (".json", ".yaml", ".yml", ".toml", ".xml")
HEAD_BYTES = 2048  # of a text, in which a caption has several words
CAPTION_WORDS = 4  # a text of so many words is a caption and no class name


def refuse_foreign_labels(
    folder: Path, names: Iterable[str], pictures: Iterable[Path] = ()
) -> None:
    """Refuses a table beside pictures that is named like labels, or names them, and is read by
    nothing here.

    Args:
        folder: where it lies.
        names: of all files there that are no pictures.
        pictures: in and below the folder; looked at where a text is there.
    """
    known: frozenset[str] | None = None
    for name in names:
        told = name not in TABLES and may_list_labels(name)
        if not told and Path(name).suffix.lower() in _TEXTS and name != CLASS_LIST:
            if known is None:
                known = frozenset(path.name for path in pictures)
            told = lists_pictures(_beginning(folder / name), known)
        if told:
            raise ValueError(
                f"{folder / name} lies beside pictures and may hold their labels or splits, which "
                "would not be read: name it metadata.csv, in the folder of the pictures, with the "
                "columns file_name and label (--label-column names another one) or split, or move "
                "it away"
            )


def lists_pictures(data: bytes, known: Collection[str]) -> bool:
    """Returns whether a text names two pictures or more by their names, or each at the beginning
    of a line by what stands before its suffix.

    Args:
        data: the beginning of the text.
        known: the names of the pictures.
    """
    text = data.decode(errors="replace")
    if len({word for word in map(_last, _WORD.findall(text)) if word in known}) > 1:
        return True
    stems = {name.partition(".")[0] for name in known}
    first = [_last(words[0]) for line in text.split("\n") if len(words := _WORD.findall(line)) > 1]
    return len({word for word in first if word in stems}) > max(1, len(first) // 2)


def _last(word: str) -> str:
    return re.split(r"[/\\]", word)[-1]


def may_list_labels(name: str) -> bool:
    """Returns whether a file of this name may be a list of labels or splits: a table, or a text
    that is named so.
    """
    stem, _, suffix = name.rpartition(".")
    named = _LISTS & set(words(stem)) or splits_in(stem)
    told = suffix.lower() in ("txt", "json", "lst") and named
    return bool(stem and (suffix.lower() in ("csv", "tsv", "jsonl", "xlsx", "mat") or told))


def refuse_sidecars(pictures: Iterable[Path], others: Iterable[Path]) -> None:
    """Refuses sidecars of pictures without classes that may hold their labels; captions may lie
    there.

    Args:
        pictures: in one folder.
        others: the other files there.
    """
    stems = {path.stem for path in pictures}
    for path in others:
        suffix = path.suffix.lower()
        if path.stem not in stems or suffix not in (*STRUCTURED, ".txt"):
            continue
        if suffix in STRUCTURED or is_short(_beginning(path)):
            raise ValueError(
                f"{path} lies beside the picture of that name and may hold its label, which would "
                "not be read: list the labels in a metadata.csv there, with the columns file_name "
                "and label, put the pictures into folders of their classes, or move these files "
                "away"
            )
        return  # captions, as of the others


def _beginning(path: Path) -> bytes:
    with open_file(path) as file:
        return file.read(HEAD_BYTES)


def is_short(data: bytes) -> bool:
    """Returns whether a text has few words, as a label has, or numbers alone, as boxes of objects
    have, and is no caption; an empty one is neither.
    """
    found = data.decode(errors="replace").split()
    numbers = all(_NUMBER.fullmatch(word) for word in found)
    return 0 < len(found) and (len(found) < CAPTION_WORDS or numbers)
