"""``release.toml``: facts about a release that no statement has, in the curator's words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path

from dpgen.settings import from_dict
from dpgen.storage.files import read_toml

NAME = "release.toml"
LARGEST_FILE = 1 << 16  # bytes
LONGEST_TEXT = 4000  # letters
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True)
class ReleaseFile:
    """The facts of a release that its curator states; all are optional. Nothing checks them, and
    the pages say whose words they are.

    Args:
        name: name of the set.
        description: what the images show.
        curators: who publishes it.
        intended_use: what it is made for.
        region: the region that the records are from, or whose laws apply.
        publication_date: the day of publication, YYYY-MM-DD.
        sector: sector of the records, as "Healthcare".
        actors: who sees what, and who is trusted with what.
        justification: why this epsilon and this unit were chosen.
        retention: how long set, model and records are kept, and who takes the set back.
        license: the license of the set, as an SPDX name.
    """

    name: str | None = None
    description: str | None = None
    curators: tuple[str, ...] = ()
    intended_use: str | None = None
    region: str | None = None
    publication_date: str | None = None
    sector: str | None = None
    actors: str | None = None
    justification: str | None = None
    retention: str | None = None
    license: str | None = None

    def __post_init__(self) -> None:
        for key, text in self._texts():
            if not text.strip() or len(text) > LONGEST_TEXT:
                raise ValueError(
                    f"{key} must be a text of 1 to {LONGEST_TEXT} letters, got {text!r:.60}"
                )
            if any(not (letter.isprintable() or letter in "\n\t") for letter in text):
                raise ValueError(f"{key} must hold no control characters, got {text!r:.60}")
        when = self.publication_date
        if when is not None and not (_DATE.fullmatch(when) and _is_date(when)):
            raise ValueError(f"publication_date must be a date, as 2026-01-31, got {when!r:.60}")

    def _texts(self) -> Iterator[tuple[str, str]]:
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, str):
                yield one.name, value
            elif value is not None:
                yield from ((one.name, text) for text in value)

    def of(self, key: str) -> str | None:
        """Returns the text of a field on one line; ``None`` where it was not stated."""
        value = getattr(self, key)
        if isinstance(value, tuple):
            value = ", ".join(value) or None
        return None if value is None else " ".join(value.split())

    @property
    def missing(self) -> list[str]:
        """Returns the fields that were not stated."""
        return [one.name for one in fields(self) if not getattr(self, one.name)]


def read_release(path: Path) -> ReleaseFile:
    """Reads the facts in a ``release.toml``. Raises ValueError for an unknown key, naming the
    nearest one.
    """
    tables = read_toml(path, LARGEST_FILE)
    when = tables.get("publication_date")
    if type(when) is date:  # TOML has a type for dates
        tables["publication_date"] = when.isoformat()
    try:
        return from_dict(ReleaseFile, tables)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
