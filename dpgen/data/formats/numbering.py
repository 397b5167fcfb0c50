"""Finds gaps in the numbers of files that are parts of one set, and files that are there twice."""

from __future__ import annotations

import filecmp
import itertools
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from dpgen.data.formats.location import DataFile
from dpgen.storage.files import open_file

HEAD_BYTES = 2**16  # of files that are compared whole only where these are equal
MOST_COMPARED = 20  # files of one beginning

_OF = re.compile(r"(.*?)([0-9]+)([-_]of[-_])([0-9]+)(.*)", re.IGNORECASE)
_NUMBERED = re.compile(r"(.*?)([0-9]+)([^0-9]*)")


def tell_missing(paths: Iterable[Path]) -> None:
    """Warns, on the owner's screen, where the names of data files say that some are not there:
    ``x-00000-of-00003.tar`` without the other two, ``x-0.tar`` and ``x-2.tar`` without the one
    between.
    """
    totals: dict[tuple[Path, str, str], set[int]] = {}
    runs: dict[tuple[Path, str, str], dict[int, str]] = {}
    for path in paths:
        told, counted = _OF.fullmatch(path.name), _NUMBERED.fullmatch(path.name)
        if told is not None:
            key = path.parent, f"{told[1]}#{told[3]}{told[4]}{told[5]}", told[4]
            totals.setdefault(key, set()).add(int(told[2]))
        elif counted is not None:
            key = path.parent, f"{counted[1]}#{counted[3]}", ""
            runs.setdefault(key, {})[int(counted[2])] = counted[2]
    for (folder, name, total), found in totals.items():
        if len(found) < int(total):
            _tell(folder, name, f"{len(found)} of {int(total)}")
    for (folder, name, _), names in runs.items():
        first, last = min(names), max(names)
        if len(names) > 1 and last - first + 1 > len(names):
            gap = next(i for i in range(first, last) if i not in names)
            _tell(folder, name, f"{names[first]} to {names[last]} without {gap}")


def _tell(folder: Path, name: str, found: str) -> None:
    warnings.warn(
        f"{folder}: of the files {name} there are {found}: put the others there if they belong to "
        "the data",
        stacklevel=4,
    )


def refuse_twice(files: Sequence[DataFile], *, by_content: bool) -> None:
    """Refuses a file that is there under two names, by links: its records would count twice, or be
    held out and learned from.

    Args:
        files: all of the data.
        by_content: whether copies are refused, too, of archives and tables of records.
    """
    seen: dict[tuple[int, int], Path] = {}
    alike: dict[tuple[int, bytes], list[Path]] = {}
    for path in (file.path for file in files):
        with suppress(OSError):  # reading it will tell
            found = os.stat(path)
            other = seen.setdefault((found.st_dev, found.st_ino), path)
            if found.st_ino and other != path:
                raise ValueError(
                    f"{path} and {other} are one file under two names (a link): remove one, or "
                    "make it a copy if its records are to count twice"
                )
            if by_content:
                with open_file(path) as file:
                    alike.setdefault((found.st_size, file.read(HEAD_BYTES)), []).append(path)
    for paths in alike.values():
        for one, other in itertools.combinations(paths[:MOST_COMPARED], 2):
            if filecmp.cmp(one, other, shallow=False):
                raise ValueError(
                    f"{other} is a copy of {one}, and its records would count twice: move it away"
                )
