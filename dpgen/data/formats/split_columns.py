"""Columns and keys that tell of which split each record is."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from dpgen.data.formats.splits import split_of, splits_in, without_split

SPLIT_COLUMNS = ("split", "subset", "partition")  # in lower case
# Names of columns that may tell splits and may tell something else: their values decide.
DOUBTFUL = (
    "set", "phase", "usage", "mode", "stage", "role", "purpose", "dataset", "group", "type", "fold",
    "source", "cohort",
)  # fmt: skip
_TOLD = ("train", "test", "validation")


def split_column(names: Iterable[str], where: str) -> str | None:
    """Returns the column that says of which split each record is; None where there is none.

    Args:
        names: of all columns.
        where: the words that name their table in a message.
    """
    found = [column for column in names if column.lower() in SPLIT_COLUMNS]
    if len(found) > 1:
        raise ValueError(
            f"{where} must have one column of splits, got {found!s:.200}: drop the others"
        )
    return found[0] if found else None


def may_tell_splits(column: str) -> bool:
    """Returns whether a column of this name may hold the words of splits."""
    lower = column.lower()
    return lower in DOUBTFUL or "split" in lower or len(splits_in(column)) > 1


def refuse_split_words(column: str, values: Iterable[object], where: str) -> None:
    """Refuses a column of another name whose values are the words of two splits or more, as a
    column ``phase`` of train and val.

    Args:
        column: its name.
        values: of all records.
        where: the words that name the table in a message.
    """
    told: set[str] = set()
    for value in set(values):
        found = split_of(value) if isinstance(value, str) else ""
        if found not in _TOLD:
            return
        told.add(found)
    if len(told) > 1:
        raise ValueError(
            f"{where}: the column {column!r:.60} holds the words of splits, which are read from a "
            "column split: rename it to that, or drop it"
        )


def refuse_other_split(column: Any, split: str, name: str) -> None:  # noqa: ANN401
    """Refuses records of another split than that for which their file is named.

    Args:
        column: of an Arrow table, which tells the split of each.
        split: of the file, or of its folder.
        name: of the file and the column, for messages.
    """
    for i, value in enumerate(column.to_pylist()):
        found = split_of(value) if isinstance(value, str) else ""
        if found in _TOLD and found != split:
            raise ValueError(
                f"{name} says {value!r:.60} at record {i}, and the file, or its folder, is named "
                f"for {split}: correct one of them, or read everything with --split all"
            )


def refuse_flags(columns: Iterable[str], where: str) -> None:
    """Refuses a column that is named for one split alone, as ``is_train``: it tells the splits of
    records in a way that is not read.

    Args:
        columns: names of all columns.
        where: the words that name their table in a message.
    """
    column = _flag(tuple(columns))
    if column is not None:
        raise ValueError(
            f"{where}: the column {column!r:.60} may tell the splits, which are read from a column "
            "split of the words train, validation and test: write one, or drop it"
        )


@lru_cache(maxsize=64)  # each record of a tar shard has the keys of the others
def _flag(columns: tuple[str, ...]) -> str | None:
    for column in columns:
        if len(splits_in(column)) == 1 and set(without_split(column)) <= {"is", "in", "for"}:
            return column
    return None


def split_values(column: Any, name: str) -> list[str]:  # noqa: ANN401
    """Returns the split of each record: train, test or validation, by any usual word.

    Args:
        column: of an Arrow table.
        name: of the file and the column, for messages.
    """
    told: dict[str, str] = {}
    found = []
    for i, value in enumerate(column.to_pylist()):
        if isinstance(value, str) and value not in told:
            told[value] = split_of(value)
        found.append(told[value] if isinstance(value, str) else "")
        if found[-1] not in _TOLD:
            raise ValueError(
                f"{name} must say train, validation or test, got {value!r:.60} at record {i}: "
                "correct it, or read everything with --split all"
            )
    return found
