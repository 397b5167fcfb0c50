"""The value of ``--labels``: counts by class, from a text or a file."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from dpgen.storage.files import read_text, read_toml

UNIFORM, RELEASED = "uniform", "released"
FORMS = "uniform, released, counts as a=100,b=50, or a .csv or .toml file"
LARGEST = 2**24  # bytes of a file of counts
MOST_DIGITS = 9


def parse_labels(text: str | None) -> Mapping[str, int] | str | None:
    """Parses how many images of each class to draw; None for equally many of each, ``"released"``
    for the proportions that the run released.

    A file is CSV of two columns, class and count, with or without these names above them; or TOML
    with a line as ``ill = 100`` for each class.

    Raises ValueError for a class that is there twice, or a count that is not a whole number.
    """
    if text is None or text == UNIFORM:
        return None
    if text == RELEASED:
        return text
    path = Path(text)
    if path.suffix.lower() == ".toml":
        return {name: _whole(name, count) for name, count in read_toml(path).items()}
    if path.suffix.lower() == ".csv":
        rows = [row for row in csv.reader(read_text(path, LARGEST).splitlines()) if row]
        if rows and [cell.strip().lower() for cell in rows[0]] == ["class", "count"]:
            del rows[0]
        return _counts([(row[0].strip(), row[1]) if len(row) == 2 else (",".join(row), None)
                        for row in rows])  # fmt: skip
    parts = [part.rpartition("=") for part in text.split(",")]
    return _counts([(name.strip(), count) if equals else (count, None)
                    for name, equals, count in parts])  # fmt: skip


def _counts(pairs: list[tuple[str, str | None]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, count in pairs:
        if count is None:
            raise ValueError(f"--labels takes {FORMS}; got {name!r:.60}")
        if name in found:
            raise ValueError(f"--labels must name each class once, got {name!r:.60} twice")
        found[name] = _whole(name, count)
    return found


def _whole(name: str, count: object) -> int:
    digits = str(count).strip()
    whole = not isinstance(count, bool | float) and digits.isascii() and digits.isdigit()
    if not whole or len(digits) > MOST_DIGITS:
        raise ValueError(
            f"--labels: the count of class {name!r:.60} must be a whole number from 0 to "
            f"10^{MOST_DIGITS} - 1, got {count!r:.60}"
        )
    return int(digits)
