"""Lists of labels beside pictures: Hugging Face's metadata.csv or .jsonl, StyleGAN's dataset.json.

Where one lists labels, the folders of the pictures are no classes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dpgen.data.formats.labels import (
    label_name,
    refuse_columns_of_classes,
    tell_other_labels,
    tell_unlabelled,
)
from dpgen.data.formats.location import CLASS_LIST, DataFile
from dpgen.data.formats.rows import LIST_BYTES, csv_rows, json_rows
from dpgen.data.formats.split_columns import refuse_flags, refuse_split_words, split_column
from dpgen.data.formats.splits import split_of
from dpgen.data.formats.unit_ids import check_unit_column, list_by_index, list_of_units, unit_id
from dpgen.storage.files import read_json

TABLES = ("metadata.csv", "metadata.jsonl")
LABELS_KEY = "labels"  # of StyleGAN's dataset.json
# Of pictures, in any case, the first that there is; the last ones may be ids, and name no picture.
FILE_COLUMNS = (
    "file_name", "filename", "file", "path", "image", "image_name", "image_id", "img", "id_code",
    "id",
)  # fmt: skip


_WHOLE = re.compile("-?[0-9]+")
_ABSOLUTE = re.compile("/|[A-Za-z]:|file:|~")


class Entry(NamedTuple):
    """What a list says of one picture: its label and unit, if any, and its split, "" for none."""

    label: int | str | None
    split: str = ""
    unit: str | None = None


def listed(
    folder: Path, names: Iterable[str], unit: str | None = None, label_column: str | None = None
) -> tuple[Path, dict[str, Entry]] | None:
    """Returns the list of a folder: the file, and its entries by path relative to the folder.

    None without a list, and for one that says neither labels nor splits, as captions do, unless its
    units are asked for.

    Args:
        folder: where pictures, or folders of them, lie.
        names: of what lies there.
        unit: the column of unit ids, if they are asked for.
        label_column: the column of labels, where one was named.
    """
    present = set(names)
    found = [folder / name for name in TABLES if name in present]
    foreign = stylegan_labels(folder / CLASS_LIST)
    if len(found) + (foreign is not None) > 1:
        raise ValueError(
            f"{folder} must have one list of labels, got {', '.join(p.name for p in found)}"
            f"{f' and {CLASS_LIST}' if foreign is not None else ''}: move all but one away"
        )
    if foreign is not None:
        label_name([LABELS_KEY], str(folder / CLASS_LIST), label_column)
        return folder / CLASS_LIST, foreign
    if not found:
        return None
    entries = _entries(found[0], unit, label_column)
    return None if entries is None else (found[0], entries)


def with_labels(
    path: Path, entries: Mapping[str, Entry], pictures: Iterable[Path]
) -> list[DataFile]:
    """Returns the pictures with what the list says of them. Each must be listed, and each listed be
    there.

    Folders that bear the names of labels must hold pictures of theirs; other folders mean nothing,
    but for a list of splits alone, beside which they are classes.

    Args:
        path: of the list; its entries are relative to its folder.
        entries: what it says.
        pictures: all that lie in and below its folder.
    """
    pictures = list(pictures)
    files, missing = [], _by_whole_name(entries, pictures, path)
    labels = {entry.label for entry in entries.values()}
    for picture in pictures:
        place = picture.relative_to(path.parent)
        entry = missing.pop(place.as_posix(), None)
        if entry is None:
            other = next(iter(missing), next(iter(entries), "nothing"))
            cure = "cut the paths down to that" if _ABSOLUTE.match(other) else "add it"
            raise ValueError(
                f"{path} must list every picture by its path from there, it does not list {place} "
                f"(but {other!r:.100}): {cure}, or move it away"
            )
        folder = place.parent.name or None
        if folder in labels and folder != entry.label:
            raise ValueError(
                f"{path} says that {place} is of class {entry.label!r:.60}, and its folder says "
                f"{folder!r}: correct one of them"
            )
        files.append(
            DataFile(
                picture, entry.split, folder if entry.label is None else None, entry.label,
                entry.unit,
            )
        )
    if missing:
        raise ValueError(
            f"{path} lists {next(iter(missing))!r:.200}, which is not there: take it off the list, "
            "or put the picture there"
        )
    return files


def _by_whole_name(
    entries: Mapping[str, Entry], pictures: Iterable[Path], path: Path
) -> dict[str, Entry]:
    """Returns the entries by the whole names of the pictures, where they name them without suffix.
    """
    bare: dict[str, list[str]] = {}
    places = [picture.relative_to(path.parent) for picture in pictures]
    for place in places:
        bare.setdefault(place.with_suffix("").as_posix(), []).append(place.as_posix())
    whole = {place.as_posix() for place in places}
    spelled: dict[str, list[str]] = {}
    for name in whole:
        spelled.setdefault(unicodedata.normalize("NFC", name), []).append(name)
    found: dict[str, Entry] = {}
    for name, entry in entries.items():
        alike = spelled.get(unicodedata.normalize("NFC", name), [name])
        own = [name] if name in whole else bare.get(name, alike)
        if len(own) > 1:
            raise ValueError(
                f"{path}: {name!r:.200} may be {own[0]} or {own[1]}: give it its suffix"
            )
        _add(found, own[0], entry, path)
    return found


def stylegan_labels(path: Path) -> dict[str, Entry] | None:
    """Returns the labels of StyleGAN, EDM and DPDM, ``{"labels": [[path, class], ...]}``; None
    where there is none, and for another dataset.json.
    """
    if not path.exists():
        return None
    table = read_json(path, LIST_BYTES)
    if not isinstance(table, dict) or LABELS_KEY not in table or "schema" in table:
        return None
    rows = table[LABELS_KEY]
    if isinstance(rows, dict):
        rows = list(rows.items())
    if not isinstance(rows, list) or not rows:
        raise ValueError(
            f"{path}: labels must be a list of [path, class], got {rows!r:.60}: rename it, and put "
            "the pictures into one folder or into class folders"
        )
    found: dict[str, Entry] = {}
    for row in rows:
        if not (isinstance(row, list | tuple) and len(row) == 2 and isinstance(row[0], str)):
            raise ValueError(f"{path}: labels must be a list of [path, class], got {row!r:.60}")
        label = row[1]
        if isinstance(label, bool) or not isinstance(label, int | str):
            raise ValueError(
                f"{path}: the class of {row[0]!r:.100} must be a whole number or a name, got "
                f"{label!r:.60}: number the classes 0, 1, 2"
            )
        _add(found, row[0], Entry(label), path)
    return found


def units_listed(path: Path, id_name: str) -> dict[str, str]:
    """Reads the unit ids of pictures from a CSV file, by path relative to the data."""
    return list_of_units(csv_rows(path), FILE_COLUMNS, path, id_name)


def units_by_index(
    path: Path, images: Path, n_records: int, *, alone: bool, id_name: str
) -> tuple[str, ...]:  # fmt: skip
    """Reads the unit ids of the records of an images file from a CSV file: see `list_by_index`."""
    return list_by_index(csv_rows(path), path, images, n_records, alone=alone, id_name=id_name)


def _entries(
    path: Path, unit: str | None, label_column: str | None
) -> dict[str, Entry] | None:  # fmt: skip
    rows = csv_rows(path) if path.suffix == ".csv" else json_rows(path)
    if not rows:
        raise ValueError(f"{path} must list the pictures, got no rows")
    columns = list(rows[0])
    lower = [column.lower() for column in columns]
    file = next((columns[lower.index(name)] for name in FILE_COLUMNS if name in lower), None)
    if file is None and len(columns) == 1 and any(mark in columns[0] for mark in ";\t|"):
        raise ValueError(
            f"{path} must have values that are separated by commas, got the header "
            f"{columns[0]!r:.100}: save it anew as CSV with commas"
        )
    if file is None:
        raise ValueError(
            f"{path} must have a column file_name, the path of each picture from its own folder, "
            f"got {columns!s:.200}: rename the one that holds it"
        )
    others = [name for name in columns if name != file]
    if unit is not None:
        check_unit_column(unit, others, str(path))
        others.remove(unit)
    label = label_name(others, str(path), label_column)
    split = split_column(others, str(path))
    refuse_flags((one for one in others if one != label), str(path))
    rest = [name for name in others if name != split]
    for column in rest:
        if column != label:
            refuse_split_words(column, (str(row[column]) for row in rows), str(path))
    tell_other_labels(others, label, label_column, str(path), stacklevel=2)
    if label is None and rest:
        values_of = {name: [row[name] for row in rows] for name in rest}
        refuse_columns_of_classes(values_of, str(path))
        subject = f"{path}: no column is named like labels, so labels are those of folders or names"
        tell_unlabelled(subject, rest, stacklevel=2)
    if label is None and split is None and unit is None:
        return None
    values = [None] * len(rows) if label is None else _values(rows, label, path)
    found: dict[str, Entry] = {}
    for row, value in zip(rows, values, strict=True):
        if not isinstance(row[file], str):
            raise ValueError(f"{path}: {file} must be the path of a picture, got {row[file]!r:.60}")
        own = None if unit is None else unit_id(row[unit], f"{path}: {row[file]!r:.200}")
        _add(found, row[file], Entry(value, _split(row[split], path) if split else "", own), path)
    return found


def _values(rows: list[dict[str, Any]], label: str, path: Path) -> list[int | str | None]:
    """Returns the labels: numbers where all are, else text. In a CSV file nothing else tells them
    apart.
    """
    values = [row[label] for row in rows]
    for value in values:
        blank = isinstance(value, str) and value != value.strip()
        if value in (None, "") or blank or not isinstance(value, int | str):
            cure = "take the blanks out" if blank else "correct it, or take picture and row out"
            raise ValueError(
                f"{path}: every picture must have a whole number or a name as {label}, got "
                f"{value!r:.60}: {cure}"
            )
    if path.suffix == ".csv" and all(_WHOLE.fullmatch(value) for value in values):
        return [int(value) for value in values]
    return values


def _split(value: object, path: Path) -> str:
    split = split_of(value) if isinstance(value, str) else ""
    if split not in ("train", "test", "validation"):
        raise ValueError(f"{path}: a split must be train, validation or test, got {value!r:.60}")
    return split


def _add(found: dict[str, Entry], name: str, entry: Entry, path: Path) -> None:
    name = name.replace("\\", "/").removeprefix("./")
    if name in found:
        raise ValueError(f"{path} must list a picture once, it lists {name!r:.200} twice")
    found[name] = entry
