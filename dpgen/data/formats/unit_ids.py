"""Unit ids: by a column, a folder or a list, which person each record belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dpgen.data.formats.labels import is_label_name
from dpgen.data.formats.location import Located

# In the place of a column's name: the folder that a picture lies in, or that above the classes.
FOLDER_UNIT, TOP_FOLDER = FOLDERS = "folder", "top-folder"


def unit_id(value: object, where: str) -> str:
    """Converts a unit id to text; 7 and "7" are one unit. Raises ValueError for a missing one.

    Args:
        value: as the data hold it.
        where: the words that name the record in a message.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(
            f"{where} must have a unit id that is text or a whole number, got {value!r:.60}: give "
            "it the id of its person, one of its own if nobody else's records can be meant, or "
            "leave the record out"
        )
    text = str(value)
    if not text or text != text.strip():
        raise ValueError(
            f"{where} must have a unit id without blanks around it, got {text!r:.60}: correct it "
            "(a person with two ids would count as two), or leave the record out"
        )
    return text


def check_unit_column(column: str, others: Iterable[str], where: str) -> None:
    """Refuses a unit column that is not there, or that says something else.

    Args:
        column: as it was asked for.
        others: the names of all columns.
        where: the words that name their table in a message.
    """
    found = list(others)
    if found.count(column) != 1:
        raise ValueError(
            f"{where} must have one column {column!r:.60} of unit ids, got {found!s:.200}: name "
            "the one with --unit (unit= in Python)"
        )
    if is_label_name(column):
        raise ValueError(
            f"{where}: {column!r:.60} is named like labels and cannot hold unit ids: rename the "
            "column, to 'person' for one"
        )


def unit_column(column: Any, name: str) -> list[str]:  # noqa: ANN401
    """Reads the unit ids of an Arrow column, one for each record.

    Args:
        column: of an Arrow table.
        name: of the file, for messages.
    """
    return unit_values(column.to_pylist(), name)


def unit_values(values: Iterable[object], name: str) -> list[str]:
    """Returns the unit ids of records, in order, as text; ``name`` is that of their file."""
    return [unit_id(value, f"{name} record {i}") for i, value in enumerate(values)]


def unit_name(located: Located, where: str) -> str | None:
    """Returns the column, key or array of unit ids; None if they are not requested. Refuses a
    folder and a list of pictures, which such data do not have.

    Args:
        located: its ``unit`` says where the ids stand.
        where: the words that say where they could, for the message.
    """
    if isinstance(located.unit, Path) or located.unit in FOLDERS:
        raise ValueError(
            f"{located.root}: unit ids of {where}, got {located.unit}: name it with --unit NAME "
            f"(rename one that is called '{located.unit}')"
        )
    return located.unit


def file_units(
    located: Located, listed_fn: Callable[[Path, str], Mapping[str, str]]
) -> tuple[str, ...] | None:
    """Returns the unit ids of the chosen files; None if they are not requested.

    Args:
        located: its ``unit`` says where the ids stand.
        listed_fn: reads a list of them, by path relative to the root, from a CSV file and the name
            of its column of ids.
    """
    if located.unit is None:
        return None
    if isinstance(located.unit, Path):
        return _from_list(located, listed_fn(located.unit, located.id_name), located.unit)
    for file in located.chosen:
        if file.unit is None:
            raise ValueError(
                f"{file.path} has no unit id: --unit {located.unit} names a column of a "
                "metadata.csv or metadata.jsonl beside the pictures, and there is none; write one "
                "with the columns file_name and "
                f"{located.unit}, or give --unit folder or a CSV file"
            )
    return tuple(str(file.unit) for file in located.chosen)


def _from_list(located: Located, ids: Mapping[str, str], path: Path) -> tuple[str, ...]:
    found = []
    for file in located.chosen:
        place = file.path.relative_to(located.root).as_posix()
        if place not in ids:
            raise ValueError(
                f"{path} must list every picture that is read, it does not list {place!r:.200}: "
                f"add it, with its path from {located.root}"
            )
        found.append(ids[place])
    return tuple(found)


def list_of_units(
    rows: Sequence[Mapping[str, Any]], file_columns: Sequence[str], path: Path, id_name: str
) -> dict[str, str]:
    """Returns the unit id of each picture that a CSV file lists.

    Args:
        rows: of the file, by column.
        file_columns: the names that the column of pictures may have.
        path: of the file, for messages.
        id_name: the column of ids in a list with several others, also with "_id" at its end.
    """
    if not rows:
        raise ValueError(f"{path} must list pictures and their unit ids, got no rows")
    columns = list(rows[0])
    file = next((name for name in file_columns if name in columns), None)
    others = [name for name in columns if name != file]
    exact = [name for name in others if name.lower() in (id_name, f"{id_name}_id")]
    found = exact if len(others) > 1 else others
    if file is None or len(found) != 1:
        raise ValueError(
            f"{path} must have a column file_name and one of unit ids, got {columns!s:.200}: keep "
            f"these two, or name the one of the ids {id_name!r}"
        )
    ids: dict[str, str] = {}
    for row in rows:
        place = str(row[file]).replace("\\", "/").removeprefix("./")
        if place in ids:
            raise ValueError(f"{path} must list a picture once, it lists {place!r:.200} twice")
        ids[place] = unit_id(row[found[0]], f"{path}: {place!r:.200}")
    return ids


def list_by_index(
    rows: Sequence[Mapping[str, Any]], path: Path, images: Path, n_records: int, *, alone: bool,
    id_name: str,
) -> tuple[str, ...]:  # fmt: skip
    """Returns the unit id of each record of an images file, from a CSV file with the columns index
    and ``id_name``: each index from 0 to ``n_records - 1`` once.

    Args:
        rows: of the file, by column.
        path: of the file, for messages.
        images: the file whose records they are. A column file_name, where there is one, says of
            which images file a row is.
        n_records: of the images file.
        alone: whether no other images file is there; else the column file_name is needed.
    """
    columns = set(rows[0]) if rows else set()
    wanted = {"index", id_name} if alone else {"file_name", "index", id_name}
    if not wanted <= columns <= {"file_name", "index", id_name}:
        raise ValueError(
            f"{path} must have the columns {', '.join(sorted(wanted))}, got "
            f"{sorted(columns)!s:.200}: index counts the records of {images.name} from 0"
        )
    own = [row for row in rows if row.get("file_name", images.name) == images.name]
    found: dict[int, str] = {}
    for row in own:
        text = str(row["index"])
        index = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else n_records
        if index >= n_records or index in found:
            raise ValueError(
                f"{path}: index must number each of the {n_records} records of {images.name} once, "
                f"from 0 to {n_records - 1}, got {row['index']!r:.60}"
                f"{' twice' if index in found else ''}"
            )
        found[index] = unit_id(row[id_name], f"{path}: index {index}")
    if len(found) < n_records:
        first = next(i for i in range(n_records) if i not in found)
        raise ValueError(
            f"{path} must list every record of {images.name}, it does not list index {first}: add "
            "it, with the id of its person"
        )
    return tuple(found[i] for i in range(n_records))
