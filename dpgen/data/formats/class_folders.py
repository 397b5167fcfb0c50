"""Lists the pictures of a folder that is a class."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from dpgen.data.formats.kinds import kind_of
from dpgen.data.formats.location import DataFile, visible
from dpgen.data.formats.table import FOLDER


def class_files(folder: Path) -> list[DataFile]:
    """Returns the pictures of a folder, whose name is their class. Raises ValueError for an empty
    folder, and for one that holds folders or data of another kind.
    """
    entries = visible(folder)
    if not entries:
        raise ValueError(f"class folder {folder} holds no images: remove the folder or fill it")
    for entry in entries:
        if entry.is_dir():
            raise ValueError(
                f"class folder {folder} must hold pictures only, got the folder {entry.name}/: "
                f"point at {folder} if its folders are splits or classes"
                f"{_with_others(folder)}, or use --unit "
                "folder with --max-records-per-unit if they are people"
            )
    kind = None
    with suppress(ValueError):  # of a file that cannot be read: decoding tells of all of them
        kind = kind_of(entries[0])
    if kind not in (FOLDER, None):
        raise ValueError(
            f"class folder {folder} must hold pictures, got {kind} data: point at {folder} itself"
            f"{_with_others(folder)}"
        )
    return [DataFile(entry, "", folder.name) for entry in entries]


def _with_others(folder: Path) -> str:
    more = sum(entry.is_dir() for entry in visible(folder.parent)) > 1
    return ", with what lies in the folders beside it moved into it" if more else ""
