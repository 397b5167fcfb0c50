"""What a file format is: how its files are recognised, read and, where it is exported, written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dpgen.data.formats.blocks import Pieces
from dpgen.data.formats.location import Located
from dpgen.data.formats.records import Records
from dpgen.data.formats.shards import Shard

ValueRange = tuple[float, float] | None
ClassNames = tuple[str, ...] | None


@dataclass(frozen=True)
class Head:
    """The beginning of a file, from which its format is recognised.

    Args:
        path: the file.
        data: its first 512 bytes, fewer if it is shorter; of a gzipped file those of its content.
        gzipped: whether the file is gzipped.
    """

    path: Path
    data: bytes
    gzipped: bool


def _no_hint(head: Head) -> str | None:
    return None


def _any_names(class_names: tuple[str, ...]) -> None:
    return None


@dataclass(frozen=True)
class Writer:
    """How a synthetic set is written in a format.

    Args:
        write_fn: writes one shard under ``Shard.folder``. Its files are new, and on the disk when
            it returns, unless ``many_files``.
        image_bytes_fn: the most bytes that an image takes on the disk, from its bytes uncompressed.
        lists_classes: whether ``dataset.json`` must list the classes, because the files do not.
        many_files: whether every image is a file of its own; the caller then syncs all of them.
        check_fn: raises ValueError for class names that the format cannot hold, and where a package
            that it needs is not installed; called before anything is written.
    """

    write_fn: Callable[[Shard, Pieces], None]
    image_bytes_fn: Callable[[int], int]
    lists_classes: bool = False
    many_files: bool = False
    check_fn: Callable[[tuple[str, ...]], None] = _any_names


@dataclass(frozen=True)
class Format:
    """A format of image files; its kind is its key in `FORMATS`, which its ``Records`` carry.

    Args:
        suffixes: of file names, lower case, with the dot. A file that has one and that no format
            recognises is refused instead of passed over.
        recognise_fn: whether a file is of this format, from its content. A file that is damaged may
            raise ValueError, OSError or an error of zlib, zipfile or struct.
        read_fn: the records of the files that were located, given the value range of float arrays
            and the class names declared for data that name none. It decodes one record at a time,
            and never counts the classes in the labels.
        takes_value_range: whether its files may hold floats; the others refuse a value range.
        takes_unit: whether it reads which unit a record is of; the others refuse the question.
        takes_label_column: whether it has columns or keys, of which one may be named that holds
            labels; the others refuse the name.
        reads_class_list: whether a ``dataset.json`` beside its files lists their classes.
        whole_files: whether a file holds many records with all that is read of them, so that a copy
            of it counts them twice.
        hint_fn: for a file that no format recognises: what is wrong and the cure, or None.
        writer: how sets are written; None: the format is only read.
    """

    suffixes: tuple[str, ...]
    recognise_fn: Callable[[Head], bool]
    read_fn: Callable[[Located, ValueRange, ClassNames], Records]
    takes_value_range: bool = False
    takes_unit: bool = False
    takes_label_column: bool = False
    reads_class_list: bool = False
    whole_files: bool = False
    hint_fn: Callable[[Head], str | None] = _no_hint
    writer: Writer | None = None

    def check_named(self, located: Located) -> None:
        """Refuses a unit or a label column that was named, where the format has none."""
        if located.unit is not None and not self.takes_unit:
            raise ValueError(
                f"unit ids are not read of {located.kind} data: save them as pictures in a folder "
                f"to use --unit {located.unit}"
            )
        if located.label_column is not None and not self.takes_label_column:
            raise ValueError(
                "a label column is one of metadata.csv or .jsonl beside pictures, of Parquet or of "
                f"the JSON in tar shards, got {located.kind}: leave --label-column "
                f"{located.label_column} out"
            )
