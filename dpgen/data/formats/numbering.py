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
    """Refuses a file that is there under two names, by links, in two splits: its records would be
    held out and learned from. In one split, as in stores that keep equal files once, it is told.

    Args:
        files: all of the data.
        by_content: whether copies are refused, too, of archives and tables of records.
    """
    seen: dict[tuple[int, int], DataFile] = {}
    alike: dict[tuple[int, bytes], list[Path]] = {}
    linked: list[tuple[Path, Path]] = []
    for file in files:
        with suppress(OSError):  # reading it will tell
            found = os.stat(file.path)
            other = seen.setdefault((found.st_dev, found.st_ino), file)
            if other is not file:
                linked.append((file.path, other.path))
                _refuse_both(file, other)
            elif by_content:
                with open_file(file.path) as head:
                    key = found.st_size, head.read(HEAD_BYTES)
                alike.setdefault(key, []).append(file.path)
    for paths in alike.values():
        for one, another in itertools.combinations(paths[:MOST_COMPARED], 2):
            if filecmp.cmp(one, another, shallow=False):
                raise ValueError(
                    f"{another} is a copy of {one}, and its records would count twice: move it away"
                )
    if linked:
        path, first = linked[0]
        warnings.warn(
            f"{path} and {first} are one file under two names (a link), which is read twice; there "
            f"are {len(linked)} of these",
            stacklevel=3,
        )


def _refuse_both(file: DataFile, other: DataFile) -> None:
    if file.split != other.split:
        raise ValueError(
            f"{file.path} and {other.path} are one file under two names (a link), one of "
            f"{file.split or 'no split'} and one of {other.split or 'no split'}: remove one, as "
            "what is held out must not be learned from"
        )
