"""Texts beside pictures which may hold their labels and are read by nothing here: tables, and
sidecars of the same name.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dpgen.data.formats.listing import TABLES
from dpgen.data.formats.splits import splits_in, words
from dpgen.storage.files import open_file

_LISTS = {"labels", "label", "annotations", "split", "splits"}
STRUCTURED = (".json", ".yaml", ".yml", ".toml", ".xml")
HEAD_BYTES = 512  # of a text, in which a caption has several words
CAPTION_WORDS = 4  # a text of so many words is a caption and no class name


def refuse_foreign_labels(folder: Path, names: Iterable[str]) -> None:
    """Refuses a table beside pictures that is named like labels and is read by nothing here."""
    for name in names:
        if name not in TABLES and may_list_labels(name):
            raise ValueError(
                f"{folder / name} lies beside pictures and may hold their labels or splits, which "
                "would not be read: name it metadata.csv, in the folder of the pictures, with the "
                "columns file_name and label (--label-column names another one) or split, or move "
                "it away"
            )


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
    """Returns whether a text has few words, as a label has, and no caption; an empty one has none.
    """
    return 0 < len(data.decode(errors="replace").split()) < CAPTION_WORDS
