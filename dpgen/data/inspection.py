"""Shows the owner of data what a run would read; nothing is charged and nothing is stored."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from dpgen.data.equal_pictures import shared, stored_pictures
from dpgen.data.formats.listing import TABLES
from dpgen.data.formats.location import CLASS_LIST, Located, Split, is_hidden
from dpgen.data.formats.picture_files import picture_format
from dpgen.data.formats.recognition import locate
from dpgen.data.formats.table import FOLDER
from dpgen.data.places import place_of
from dpgen.data.reading import EMBEDDED, read_records
from dpgen.data.silos import SiloIds
from dpgen.data.sources import RecordSource, open_source
from dpgen.data.units import Units
from dpgen.images.classes import Classes, class_list
from dpgen.images.grid import grid
from dpgen.images.images import Images, to_float
from dpgen.storage.files import open_file

PRIVATE = (
    "For the owner's eyes: no noise is on any of this and no guarantee covers it. Nothing was "
    "charged."
)
CHUNK = 256  # records that are read at once
SIDE, ROWS, COLUMNS = 4096, 20, 8  # the most pixels, classes and records of a class in a picture


@dataclass(frozen=True)
class Inspection:
    """The content of a location, as a run would read it.

    Args:
        location: the location, as it was given.
        kind: the format.
        files: number of files, by picture format; for other kinds by that kind.
        splits: number of records, or why they cannot be read, by split; of validation only where
            the data have such a split.
        split: the split that everything below describes.
        n_records, class_names, shape: as they would be declared; shape is (C, H, W).
        class_counts: number of records of each class.
        unit_counts: number of units, by their number of records; None without unit ids.
        silo_counts: number of records of each silo, by name; None without silo ids.
        stored: number of records, by shape before any resize, "HxWxC".
        lowest, highest: extreme pixels as read, in 0..255.
        black, white: shares of pixels that are 0 and 255.
        passed_over: why a file is not read, by file; in archives by kind of file.
        notes: the warnings of the readers.
    """

    location: str
    kind: str
    files: dict[str, int]
    splits: dict[str, int | str]
    split: str
    n_records: int
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    unit_counts: dict[int, int] | None
    silo_counts: dict[str, int] | None
    shape: tuple[int, int, int]
    stored: dict[str, int]
    lowest: int
    highest: int
    black: float
    white: float
    passed_over: dict[str, str]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "covered_by_a_guarantee": False, "statement": PRIVATE}


def inspect_images(
    location: str | Path,
    *,
    split: Split = "train",
    size: int | None = None,
    channels: int | None = None,
    value_range: tuple[float, float] | None = None,
    classes: Classes | None = None,
    else_classes: tuple[str, ...] | None = None,
    unit: str | Path | None = None,
    silo: str | Path | None = None,
    label_column: str | None = None,
) -> tuple[Inspection, np.ndarray]:
    """Reads every record as a run would, and writes nothing.

    Arguments as for `dpgen.data.sources.open_source`, which refuses the same data; ``unit`` as
    `dpgen.data.units.Units.ids` and ``silo`` as `dpgen.data.silos.SiloIds.ids`, but all records of
    a unit or a silo are shown.

    Returns:
        The findings, and a picture of a few records, a row per class: uint8 (H, W, C).
    """
    declared = else_classes if classes is None else class_list(classes)
    units = None if unit is None else Units(unit, None)
    silos = None if silo is None else SiloIds(silo, 1)
    ids = silos.place if silos is not None else None if units is None else units.place
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        source = open_source(
            location, split=split, size=size, channels=channels, value_range=value_range,
            classes=classes, else_classes=else_classes, units=units, silos=silos,
            label_column=label_column,
        )  # fmt: skip
        labels, counts = _looked_at(source)
        stored, equal, known = stored_pictures(source)
        path = None if location in EMBEDDED else place_of(location).path
        name = "unit" if silos is None else "silo"
        located = None if path is None else locate(path, split, ids, label_column, name)
    splits = _splits(location, value_range, declared, (ids, label_column, name))
    for other in _held_apart(splits, split):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # told where that split is inspected
            apart = open_source(
                location, split=other, value_range=value_range, else_classes=declared,
                units=units, silos=silos, label_column=label_column, size=size, channels=channels,
            )  # fmt: skip
        equal += shared(apart, other, split, known)
    found = Inspection(
        location=str(location),
        kind=source.kind,
        files={} if located is None else _files(located),
        splits=splits,
        split=split,
        n_records=len(source),
        class_names=source.class_names,
        class_counts=tuple(np.bincount(labels, minlength=len(source.class_names)).tolist()),
        unit_counts=_unit_counts(source),
        silo_counts=_silo_counts(source),
        shape=source.shape,
        stored=dict(stored.most_common()),
        lowest=int(np.flatnonzero(counts)[0]),
        highest=int(np.flatnonzero(counts)[-1]),
        black=float(counts[0] / counts.sum()),
        white=float(counts[255] / counts.sum()),
        passed_over={
            **({} if path is None or located is None else dict(_passed_over(path, located))),
            **source.passed_over,
        },
        notes=(*dict.fromkeys(str(one.message) for one in warned), *equal),
    )
    return found, _picture(source, labels)


def _held_apart(splits: dict[str, int | str], split: Split) -> list[Split]:
    """Returns the splits that can be read and should share no picture with this one: those held out
    from training, or the one for training. Of those held out one may serve as the other.
    """
    if split == "all" or len(set(splits.values())) == 1:
        return []
    others: list[Split] = ["test", "validation"] if split == "train" else ["train"]
    return [other for other in others if isinstance(splits.get(other), int)]


def _unit_counts(source: RecordSource) -> dict[int, int] | None:
    if source.units is None:
        return None
    return dict(sorted(Counter(Counter(source.units).values()).items()))


def _silo_counts(source: RecordSource) -> dict[str, int] | None:
    if source.silos is None:
        return None
    numbers = source.silo_of(range(len(source)))
    counts = np.bincount(numbers, minlength=len(source.silos.names))
    return dict(zip(source.silos.names, counts.tolist(), strict=True))


def _looked_at(source: RecordSource) -> tuple[np.ndarray, np.ndarray]:
    """Reads all labels, (N,), and counts the pixels of each value, (256,)."""
    labels, counts = [], np.zeros(256, np.int64)
    for start in range(0, len(source), CHUNK):
        pixels, found = source.read(range(start, min(start + CHUNK, len(source))))
        labels.append(found.numpy())
        counts += np.bincount(pixels.numpy().reshape(-1), minlength=256)
    return np.concatenate(labels), counts


def _splits(
    location: str | Path,
    value_range: tuple[float, float] | None,
    classes: tuple[str, ...] | None,
    ids: tuple[str | Path | None, str | None, str],
) -> dict[str, int | str]:
    """Counts the records of every split, or says why one cannot be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of splits that are not the one that is shown
        found = {
            split: _n_records(location, split, value_range, classes, ids)
            for split in get_args(Split)
        }
    alike = len(set(found.values())) == 1  # data without splits serve as any
    if alike or isinstance(found["validation"], str):
        del found["validation"]
    return found


def _n_records(
    location: str | Path,
    split: Split,
    value_range: tuple[float, float] | None,
    classes: tuple[str, ...] | None,
    ids: tuple[str | Path | None, str | None, str],
) -> int | str:
    """Counts the records of a split, or returns why it cannot be read.

    Args:
        ids: where ids stand, the column of labels, and the name of the ids: see `read_records`.
    """
    try:
        return len(read_records(location, split, value_range, classes, *ids).labels)
    except ValueError as error:
        return str(error)


def _files(located: Located) -> dict[str, int]:
    if located.kind != FOLDER:
        return {located.kind: len(located.chosen)}
    return dict(Counter(_format_of(file.path) for file in located.chosen).most_common())


def _format_of(path: Path) -> str:
    with open_file(path) as file:
        found = picture_format(path.name, file.read(512))
    return "another" if found is None else found.name


def _passed_over(path: Path, located: Located) -> Iterator[tuple[str, str]]:
    """Yields the files in a folder that are not data of any split, and why."""
    if not path.is_dir():
        return
    known = {Path(os.path.abspath(file.path)) for file in located.files}
    listed = any(one.label is not None or one.unit is not None for one in located.files)
    for place, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            file = Path(place, name)
            inside = file.relative_to(path)
            if Path(os.path.abspath(file)) in known or inside == Path(CLASS_LIST):
                continue
            if listed and name in TABLES:
                continue  # it was read
            hidden = any(is_hidden(part) for part in inside.parts)
            yield str(inside), "hidden" if hidden else _why(inside, known, path)


def _why(inside: Path, known: set[Path], root: Path) -> str:
    top = Path(os.path.abspath(root / inside.parts[0]))
    if len(inside.parts) > 1 and top in known:
        return f"{inside.parts[0]}/ is a split of another name"
    return "text or a table, no record of its own" if inside.suffix else "no data by its content"


def _picture(source: RecordSource, labels: np.ndarray) -> np.ndarray:
    side = max(source.shape[1:])
    n_columns = max(1, min(COLUMNS, SIDE // side))
    n_rows = max(1, min(ROWS, SIDE // side))
    n_classes = min(len(source.class_names), n_rows)
    n_shown = n_columns if n_classes > 1 else min(10, n_rows) * n_columns
    shown = np.concatenate([np.flatnonzero(labels == k)[:n_shown] for k in range(n_classes)])
    if not len(shown):  # of classes further down the list alone
        shown, n_classes = np.arange(min(len(labels), n_columns)), 1
    pixels, found = source.read(shown)
    found = found if n_classes > 1 else found * 0
    return np.asarray(grid(Images(to_float(pixels), found), n_classes, n_columns=n_columns))
