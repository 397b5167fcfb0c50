"""Finds the data files of a location and their format, from their content."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from pathlib import Path

from dpgen.data.formats.class_folders import class_files
from dpgen.data.formats.foreign import is_binary
from dpgen.data.formats.kinds import head_of, kind_of
from dpgen.data.formats.listing import TABLES, Entry, listed, stylegan_labels, with_labels
from dpgen.data.formats.location import (
    CLASS_LIST,
    DataFile,
    Located,
    Split,
    is_hidden,
    read_class_list,
    visible,
)
from dpgen.data.formats.numbering import refuse_twice, tell_missing
from dpgen.data.formats.people import (
    in_peoples_folders,
    people_files,
    require_one_level,
    silo_files,
)
from dpgen.data.formats.picture_files import (
    check_beside_pictures,
    may_be_passed_over,
    unread_picture,
)
from dpgen.data.formats.refusals import Refusals
from dpgen.data.formats.sidecars import may_list_labels, refuse_foreign_labels, refuse_sidecars
from dpgen.data.formats.splits import (
    ORDER,
    OTHER,
    choose,
    folder_splits,
    split_of,
    with_named_splits,
)
from dpgen.data.formats.table import FOLDER, find, named_files
from dpgen.data.formats.unit_ids import FOLDER_UNIT, FOLDERS, TOP_FOLDER


def locate(
    path: Path, split: Split, unit: str | Path | None = None, label_column: str | None = None,
    id_name: str = "unit",
) -> Located:  # fmt: skip
    """Finds the data files under a path, a file or a folder, and their kind.

    Files that are no data (a README, privacy.json) and hidden files are passed over; a file named
    like data that is none is an error, and so are two kinds in one folder.

    Args:
        path: of the data.
        split: which is to be read.
        unit: where unit ids stand, if they are asked for: a column, ``folder`` or a CSV file. With
            ``folder`` the one that a picture lies in names its person, and those above it are
            class and split: PERSON/, CLASS/PERSON/, SPLIT/CLASS/PERSON/. Folders of one name are
            one person, also in two classes. With ``top-folder`` it is the folder above the classes:
            UNIT/CLASS/, SPLIT/UNIT/CLASS/.
        label_column: the column or key of labels, where one was named.
        id_name: the name of the column of ids in a CSV file.
    """
    if not path.is_dir():
        kind = kind_of(path)
        if kind in (None, FOLDER):
            cure = (
                "point at the folder that holds the pictures"
                if kind
                else "point at a data file or folder"
            )
            raise ValueError(f"{path} is no data set: {cure}")
        files, root = [DataFile(path, "")], path.parent
    else:
        (kind, files), root = _scan(path, split, unit, label_column), path
    foreign = kind == FOLDER and stylegan_labels(root / CLASS_LIST) is not None
    named = find(kind).reads_class_list and not foreign
    names = read_class_list(root / CLASS_LIST) if named else None
    refuse_twice(files, by_content=find(kind).whole_files)
    if kind != FOLDER:
        tell_missing(file.path for file in files)
    chosen = tuple(choose(files, split, path))
    return Located(kind, root, tuple(files), chosen, names, split, unit, label_column, id_name)


def _scan(
    folder: Path, split: Split, unit: str | Path | None, label_column: str | None
) -> tuple[str, list[DataFile]]:
    entries = visible(folder)
    inner = {entry.name: entry for entry in entries if entry.is_dir()}
    told = listed(folder, [entry.name for entry in entries], _column(unit), label_column)
    stated = (read_class_list(folder / CLASS_LIST) or ()) if inner and told is None else ()
    splits = {} if inner.keys() <= set(stated) else folder_splits(list(inner), folder, split)
    if told is not None:
        files = _listed_files(*told, unit, splits)
        return FOLDER, with_named_splits(_in_folder(file, folder, splits) for file in files)
    if not splits:
        kind, files = _scan_level(folder, unit, label_column)
        return kind, with_named_splits(files)
    kinds: dict[str, str] = {}
    files = []
    for name, found in sorted(splits.items(), key=lambda one: (ORDER.index(one[1]), one[0])):
        if found == OTHER:
            _refuse_data(inner[name], folder, splits)
            continue
        kinds[name], level = _scan_level(inner[name], unit, label_column)
        for file in level:
            own = file.split or ("" if kinds[name] == FOLDER else split_of(file.path.name))
            if own not in ("", found):
                raise ValueError(
                    f"{file.path} is named for {own}, and its folder for {found}: rename one"
                )
            files.append(replace(file, split=found))
    (first, kind), *others = kinds.items()
    for name, other in others:
        if other != kind:
            raise ValueError(
                f"{folder} must hold one kind of data, got {kind} in {first}/ and {other} in "
                f"{name}/"
            )
    also = "".join(f" and {name}/" for name, _ in others)
    loose = [entry for entry in entries if entry.is_file() and kind_of(entry)]
    if loose:
        raise ValueError(
            f"{folder} must not hold data beside {first}/{also}, got {loose[0].name}"
        )
    if kind == FOLDER:
        beside, refusals = [entry for entry in entries if not entry.is_dir()], Refusals()
        _note_others(beside, [FOLDER], [], refusals)
        refusals.check()
        if all(file.class_name is None and file.label is None for file in files):
            paths = [file.path for file in files]
            refuse_foreign_labels(folder, [entry.name for entry in beside], paths)
            for apart in [inner[name] for name, one in splits.items() if one == OTHER]:
                refuse_foreign_labels(apart, [entry.name for entry in visible(apart)], paths)
    return kind, files


def _in_folder(file: DataFile, folder: Path, splits: dict[str, str]) -> DataFile:
    """Returns a listed picture with the split of its folder, where the list says none."""
    top, *below = file.path.relative_to(folder).parts
    found = splits.get(top, "") if below else ""
    if file.split and found not in ("", OTHER, file.split):
        raise ValueError(
            f"{file.path} is listed for {file.split}, and its folder is for {found}: correct one"
        )
    return replace(file, split=file.split or ("" if found == OTHER else found))


def _refuse_data(beside: Path, folder: Path, splits: dict[str, str]) -> None:
    """Refuses data in a folder beside those of the splits."""
    for place, _, names in os.walk(beside):
        for name in sorted(names):
            if not is_hidden(name) and kind_of(Path(place, name)):
                first = min(splits, key=lambda name: ORDER.index(splits[name]))
                raise ValueError(
                    f"{beside} holds data, {name}, of no split, beside {first}/: move it away, or "
                    f"point at {folder / first} itself"
                )


def _pictures_below(told: Path) -> list[Path]:
    """Returns the pictures beside a list and below, sorted; other kinds of data are refused, and so
    is another list further down.

    Args:
        told: path of the list.
    """
    folder = told.parent
    found, refusals = [], Refusals()
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_hidden(name)]
        for path in sorted(Path(place, name) for name in names if not is_hidden(name)):
            with refusals.noting():
                if path.name in TABLES and path != told:
                    raise ValueError(
                        f"{path} would not be read, as {told} lists the pictures: make one list of "
                        "both, or move one away"
                    )
                if (kind := kind_of(path)) is None:
                    if path.parent == folder and path != told and may_list_labels(path.name):
                        warnings.warn(
                            f"{path} is not read, as {told.name} lists the pictures", stacklevel=2
                        )
                    _note_others([path], [FOLDER], [], refusals)
                elif kind != FOLDER:
                    raise ValueError(
                        f"{folder} must hold one kind of data, got folder and {kind}: move "
                        f"{path.name} away"
                    )
                else:
                    found.append(path)
    refusals.check()
    return sorted(found)


def _scan_level(
    folder: Path, unit: str | Path | None, label_column: str | None
) -> tuple[str, list[DataFile]]:  # fmt: skip
    entries = visible(folder)
    told = listed(folder, [entry.name for entry in entries], _column(unit), label_column)
    if told is not None:
        return FOLDER, _listed_files(*told, unit, {})
    inner = [entry for entry in entries if entry.is_dir()]
    kinds, refusals = {}, Refusals()
    for entry in entries:
        with refusals.noting():
            if not entry.is_dir():
                kinds[entry] = kind_of(entry)
    data = [entry for entry, kind in kinds.items() if kind]
    found = sorted({kind for kind in kinds.values() if kind})
    if len(found) > 1:
        raise ValueError(
            f"{folder} must hold one kind of data, got {' and '.join(found)}: move one away"
        )
    if found and inner:
        raise ValueError(
            f"{folder} must hold data files or sub-folders, got {data[0].name} and "
            f"{inner[0].name}/: move one away"
        )
    _note_others([entry for entry, kind in kinds.items() if not kind], found, inner, refusals)
    refusals.check()
    if found == [FOLDER] or (inner and not found):
        below = (path for entry in inner for path in visible(entry))
        texts = [entry.name for entry, kind in kinds.items() if not kind]
        refuse_foreign_labels(folder, texts, data or below)
    if found == [FOLDER]:
        refuse_sidecars(data, [entry for entry, kind in kinds.items() if not kind])
    if found == [FOLDER] and unit in FOLDERS:
        raise ValueError(
            f"{data[0]} must lie in the folder of its person, as --unit {unit} says: move it there"
        )
    if found:
        return found[0], [DataFile(entry, "", None) for entry in data]
    if not inner:
        there = ", ".join(entry.name for entry in entries) or "nothing"
        raise ValueError(
            f"{folder} holds no data: expected {named_files()} files, got {there!s:.100}; arrays "
            "and tables of pixels are read as npz: numpy.savez('x.npz', images=..., labels=...)"
        )
    if unit == FOLDER_UNIT:
        files = [file for entry in inner for file in people_files(entry)]
        require_one_level(files, folder)
        return FOLDER, files
    if unit == TOP_FOLDER:
        return FOLDER, [file for entry in inner for file in silo_files(entry)]
    return FOLDER, [file for entry in inner for file in class_files(entry)]


def _column(unit: str | Path | None) -> str | None:
    return unit if isinstance(unit, str) and unit not in FOLDERS else None


def _listed_files(
    path: Path, entries: dict[str, Entry], unit: str | Path | None, splits: dict[str, str]
) -> list[DataFile]:
    """Returns the listed pictures, with their person where folders name people."""
    files = with_labels(path, entries, _pictures_below(path))
    return in_peoples_folders(files, path, splits) if unit in FOLDERS else files


def _note_others(
    others: list[Path], kinds: list[str], inner: list[Path], refusals: Refusals
) -> None:
    """Refuses what lies beside pictures, or beside class folders, and may be a record."""
    for path in others:
        with refusals.noting():
            head = head_of(path).data
            if kinds == [FOLDER] or (inner and not kinds):
                check_beside_pictures(path.name, head, str(path))
            elif kinds and not may_be_passed_over(path.name) and is_binary(head):
                raise ValueError(
                    f"{path} lies beside {kinds[0]} data, and is of no kind that is read: convert "
                    "it, or move it away"
                )
            elif not kinds and (wrong := unread_picture(path.name, head)) is not None:
                raise ValueError(f"{path} {wrong}")
