"""Where data lie: the files of a location with their splits and classes, and dataset.json."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dpgen.storage.files import read_json

Split = Literal["train", "test", "validation", "all"]

CLASS_LIST = "dataset.json"
CLASS_LIST_SCHEMA = "dpgen-dataset/1"
CLASS_LIST_BYTES = 2**22

# What file managers leave behind, besides dot-files; in lower case.
HIDDEN = {
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "__macosx", "@eadir",
    "$recycle.bin", "system volume information", "lost+found",
}  # fmt: skip


@dataclass(frozen=True)
class DataFile:
    """One file of a location, its split ("" for none) and, in an image folder, its class: that of
    its folder, or the label that a list beside the pictures gives it. ``unit`` is the person it is
    of, where that was asked for and a folder or a list says it.
    """

    path: Path
    split: str
    class_name: str | None = None
    label: int | str | None = None
    unit: str | None = None


@dataclass(frozen=True)
class Located:
    """The data files of one location, all of one kind, in order, and those of the split chosen.

    Class lists are taken from ``files``, records from ``chosen``: a label means the same in every
    split. ``split`` is what was asked for, where a file holds several. ``unit`` is where unit ids
    stand: a column, ``folder`` or a CSV file; None where none are read. ``label_column`` is the
    column or key of labels, where one was named. ``id_name`` is the name of the column of ids in a
    CSV file: "unit", or "silo" where the ids that are read as units are those of silos.
    """

    kind: str
    root: Path
    files: tuple[DataFile, ...]
    chosen: tuple[DataFile, ...]
    class_names: tuple[str, ...] | None
    split: Split = "all"
    unit: str | Path | None = None
    label_column: str | None = None
    id_name: str = "unit"

    @property
    def name(self) -> str:
        """Returns the words that name the data in a message: their one file, or their folder."""
        return str(self.files[0].path if len(self.files) == 1 else self.root)


def read_class_list(path: Path) -> tuple[str, ...] | None:
    """Returns the class names, in label order, that dataset.json lists; None without the file."""
    if not path.exists():
        return None
    table = read_json(path, CLASS_LIST_BYTES)
    schema = table.get("schema") if isinstance(table, dict) else None
    if schema != CLASS_LIST_SCHEMA:
        raise ValueError(
            f"{path} must have the schema {CLASS_LIST_SCHEMA!r}, got {schema!r:.60}: if it is "
            "another tool's, rename it once its labels are in the data themselves"
        )
    names = table.get("class_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path}: class_names must be a list of names, got {names!r:.200}")
    return tuple(names)


def class_list(class_names: tuple[str, ...]) -> bytes:
    """Makes dataset.json: the class names in label order, which folders and numbers alone do not
    keep.
    """
    table = {"schema": CLASS_LIST_SCHEMA, "class_names": list(class_names)}
    return (json.dumps(table, indent=2, ensure_ascii=False) + "\n").encode()


def is_hidden(name: str) -> bool:
    """Returns whether a file or folder of this name is no part of the data."""
    return name.startswith(".") or name.lower() in HIDDEN


def folded(name: str) -> str:
    """Returns a name without what people do not tell apart: capitals, forms of a letter, invisible
    signs, and which blank, hyphen or underscore stands between two words.
    """
    plain = unicodedata.normalize("NFKC", name)
    shown = "".join(sign for sign in plain if unicodedata.category(sign) != "Cf")
    return " ".join(re.split(r"[\s_-]+", shown)).strip().casefold()


def visible(folder: Path) -> list[Path]:
    """Returns the entries of a folder, sorted by name, without hidden ones."""
    return sorted(
        (entry for entry in folder.iterdir() if not is_hidden(entry.name)),
        key=lambda entry: entry.name,
    )
