"""Rows of tables: CSV, and JSON with one object in each line."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from dpgen.storage.files import parse_json, read_text

LIST_BYTES = 2**26  # a million and a half pictures


def csv_rows(path: Path) -> list[dict[str, Any]]:
    """Reads the rows of a CSV file by column, all of them text."""
    text = read_text(path, LIST_BYTES).removeprefix("\ufeff")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        columns, *rows = [row for row in reader if row] or [[]]
    except csv.Error as error:
        raise ValueError(f"{path} must be CSV: line {reader.line_num}: {error}") from None
    if len(set(columns)) < len(columns):
        raise ValueError(f"{path} must name each column once, got {columns!s:.200}")
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(
                f"{path} must have {len(columns)} values in each row, separated by commas, got "
                f"{row!s:.200}"
            )
    return [dict(zip(columns, row, strict=True)) for row in rows]


def json_rows(path: Path) -> list[dict[str, Any]]:
    """Reads the objects of a file with one in each line; all have the same keys."""
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(read_text(path, LIST_BYTES).split("\n"), 1):
        if not line.strip():
            continue
        row = parse_json(line, f"{path}: line {number}", finite=False)
        if not isinstance(row, dict) or (rows and row.keys() != rows[0].keys()):
            raise ValueError(f"{path}: line {number} must be an object with the keys of the first")
        rows.append(row)
    return rows
