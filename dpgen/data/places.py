"""Finds the data of a location on this machine: at the given path, or in a private copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from dpgen.data.copies import copied
from dpgen.data.formats.records import Records
from dpgen.data.formats.refusals import rewritten
from dpgen.data.remote import fetch, fetched, is_address
from dpgen.data.zipped import SUFFIX, top_folder, unpack

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Data on this machine.

    Args:
        path: the file or folder to read.
        location: the location as it was given, which messages name.
        copy: the folder that holds a copy of it; None if nothing was copied.
    """

    path: Path
    location: str
    copy: Path | None = None

    def told(self, text: str) -> str:
        """Replaces the path of the copy in a text by the location, as the copy is temporary."""
        return text if self.copy is None else text.replace(str(self.copy), self.location)

    def telling(self, read_fn: Callable[[], T]) -> T:
        """Returns the result of ``read_fn``; a ValueError from it names the location."""
        try:
            return read_fn()
        except ValueError as error:
            if self.copy is None:
                raise
            raise rewritten(error, self.told) from error

    def telling_records(self, records: Records) -> Records:
        """Returns the same records, with names and errors that name the location."""
        if self.copy is None:
            return records
        decode, name_of = records.decode_fn, records.name_fn
        return replace(
            records,
            decode_fn=lambda i: self.telling(lambda: decode(i)),
            name_fn=lambda i: self.told(name_of(i)),
        )


def place_of(location: str | Path) -> Place:
    """Returns the place of the data of a path or an address; fetches and unpacks them once in a
    process.
    """
    text, path = str(location), Path(location)
    copy = None
    if isinstance(location, str) and is_address(location):
        copy = copied(location, lambda folder: fetch(location, folder))
        path = fetched(location, copy)
    if path.suffix.lower() != SUFFIX or not path.is_file():
        return Place(path, text, copy)
    packed = Place(path, text, copy)
    status = path.stat()
    key = f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"
    copy = packed.telling(lambda: copied(key, lambda folder: unpack(path, folder)))
    return Place(top_folder(copy), text, copy)
