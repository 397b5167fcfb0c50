"""A folder of pictures: one sub-folder per class, or none and no classes."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np

from dpgen.data.formats.blocks import Pieces
from dpgen.data.formats.companions import refuse_companions, refuse_masks
from dpgen.data.formats.format import Format, Head, ValueRange, Writer
from dpgen.data.formats.labels import settled
from dpgen.data.formats.listing import units_listed
from dpgen.data.formats.location import CLASS_LIST, Located, folded, is_hidden
from dpgen.data.formats.parts import one_class
from dpgen.data.formats.picture_files import SUFFIXES, picture_format, unread_picture
from dpgen.data.formats.pictures import decode_picture_file, encode_png, png_bytes
from dpgen.data.formats.records import Records
from dpgen.data.formats.shards import Shard, numbered, write_new
from dpgen.data.formats.splits import folder_splits, words
from dpgen.data.formats.unit_ids import file_units

MOST_WORDS = 20  # with which names of pictures begin, to be taken for those of classes
BLOCK_BYTES = 4096  # what a file system gives a file at least
_UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f]|^\.|^ |[. ]$')
_DEVICES = {"con", "prn", "aux", "nul"}


def recognise(head: Head) -> bool:
    """Returns whether a file is one picture, of a format that is read."""
    found = picture_format(head.path.name, head.data)
    return found is not None and found.is_read and not head.gzipped


def hint(head: Head) -> str | None:
    """Says what is wrong with a file that is named like a picture that is read, and is another one.
    """
    if not head.path.name.lower().endswith(SUFFIXES):
        return None
    return unread_picture(head.path.name, head.data)


def folder_records(
    located: Located, value_range: tuple[float, float] | None, classes: tuple[str, ...] | None
) -> Records:
    """Records in the order of class folder and file name; classes in that of sorted folder names.

    The folders name the classes, so none are taken from a declaration; but folders that look like
    parts of one set, or people, are classes only where they are declared, and one class where one
    is.

    Where dataset.json lists the classes, as in a set written here, its order holds, and a listed
    class may be without a folder. Where a list beside the pictures gives their labels, they are
    read by the declared classes, and the folders are none.
    """
    if any(file.label is not None for file in located.files):
        return _listed_records(located, value_range, classes)
    if located.label_column is not None:
        raise ValueError(
            f"{located.root}: --label-column {located.label_column} names a column of a "
            "metadata.csv or metadata.jsonl beside the pictures, and there is none: write one with "
            f"the columns file_name and {located.label_column}, or leave it out"
        )
    found = sorted({file.class_name for file in located.files if file.class_name is not None})
    _refuse_twins(located, found)
    refuse_masks(located, found)
    refuse_companions(file.path for file in located.files)
    whole = one_class(located, found, classes)
    if whole is not None:
        labels = np.zeros(len(located.chosen), np.int64)
        return _records(located, value_range, labels, whole, classes_declared=True)
    names = located.class_names or tuple(found) or ("all",)
    for name in found:
        if name not in names:
            raise ValueError(
                f"{located.root / name} must be a class that {CLASS_LIST} lists, got {names}"
            )
    bare = next((file.path for file in located.chosen if file.class_name is None), None)
    if bare is not None and found:
        raise ValueError(
            f"{bare} must lie in a folder of its class, as pictures of {found[0]} do: move it "
            "there, or read another split"
        )
    if not found:
        _tell_names(located)
    number = {name: i for i, name in enumerate(names)}
    labels = np.array(
        [0 if file.class_name is None else number[file.class_name] for file in located.chosen],
        np.int64,
    )
    return _records(located, value_range, labels, names, classes_declared=False)


def _tell_names(located: Located) -> None:
    """Warns, on the owner's screen, where pictures without classes are named as if for classes: a
    few words, each before the numbers of several pictures, as ``cat.1.jpg`` and ``dog.1.jpg``.
    """
    counts = Counter(tuple(words(re.split("[0-9]", one.path.stem)[0])) for one in located.chosen)
    if 1 < len(counts) <= MOST_WORDS and min(counts.values()) > 1 and () not in counts:
        begun = ", ".join("_".join(word) for word in sorted(counts))
        warnings.warn(
            f"{located.root}: the pictures are read as one class, and their names begin with "
            f"{begun!s:.200}: if these are classes, move the pictures into folders of these names, "
            "or list them in a metadata.csv with the columns file_name and label",
            stacklevel=2,
        )


def _records(
    located: Located, value_range: ValueRange, labels: np.ndarray, names: tuple[str, ...],
    *, classes_declared: bool,
) -> Records:  # fmt: skip
    paths = [file.path for file in located.chosen]
    return Records(
        kind="folder",
        labels=labels,
        class_names=names,
        decode_fn=lambda i: decode_picture_file(paths[i], value_range),
        name_fn=lambda i: str(paths[i]),
        classes_declared=classes_declared,
        units=file_units(located, units_listed),
    )


def _listed_records(
    located: Located, value_range: ValueRange, classes: tuple[str, ...] | None
) -> Records:
    """Reads records whose labels are in a list beside the pictures."""
    bare = next((file.path for file in located.chosen if file.label is None), None)
    if bare is not None:
        raise ValueError(f"{bare} must be on a list of labels like the other pictures: add it")
    labels, names = settled(
        [file.label for file in located.files if file.label is not None],
        classes,
        name=str(located.root),
        stated=located.class_names,
        place=f"class_names in a {CLASS_LIST} written by dpgen",
    )
    _require_agreement(located, labels, names)
    chosen = {file.path for file in located.chosen}
    kept = [file.path in chosen for file in located.files if file.label is not None]
    declared = located.class_names is None
    kept_labels = labels[np.array(kept, bool)]
    return _records(located, value_range, kept_labels, names, classes_declared=declared)


def _require_agreement(located: Located, labels: np.ndarray, names: tuple[str, ...]) -> None:
    """Refuses listed numbers that give pictures another class than the folders do, where all of
    these have names of classes that are no numbers.
    """
    files = [file for file in located.files if file.label is not None]
    folders = [file.path.parent.name for file in files]
    if not set(folders) <= set(names) or any(name.isdigit() for name in folders):
        return
    for file, folder, label in zip(files, folders, labels.tolist(), strict=True):
        if names[label] != folder:
            raise ValueError(
                f"{file.path} is listed as class {label}, {names[label]!r:.60}, and its folder "
                f"says {folder!r:.60}: correct one of them"
            )


def _refuse_twins(located: Located, found: Sequence[str]) -> None:
    """Refuses two folders whose names are one in two spellings of Unicode, or differ in capitals,
    blanks, hyphens or signs that nobody sees.
    """
    spelled: dict[str, str] = {}
    seen: dict[str, str] = {}
    for name in found:
        exact = unicodedata.normalize("NFC", name)
        other = spelled.setdefault(exact, name)
        if other != name:
            raise ValueError(
                f"{located.root}: two class folders are called {exact!r}, in two spellings of "
                "Unicode: merge them, or rename one"
            )
        other = seen.setdefault(folded(name), name)
        if other != name and located.class_names is None:
            raise ValueError(
                f"{located.root}: the class folders {other!r} and {name!r} differ in capitals, "
                "blanks, hyphens or invisible signs alone: merge them, or rename one"
            )


def write_folder(shard: Shard, pieces: Pieces) -> None:
    """Writes ``<class>/000000.png``, numbered through the whole set.

    The caller syncs: a call per file takes minutes.
    """
    places: dict[int, str] = {}
    for index, pixels, label in numbered(shard, pieces):
        if label not in places:
            place = shard.folder / shard.class_names[label]
            place.mkdir(exist_ok=True)
            places[label] = str(place)
        write_new(f"{places[label]}/{index:0{shard.digits}d}.png", encode_png(pixels))


def check_folder_names(class_names: tuple[str, ...]) -> None:
    """Refuses class names that cannot be folder names on every system, or would share one."""
    seen: dict[str, str] = {}
    cure = "rename the class, or choose another format than folder"
    for name in class_names:
        if (
            _UNSAFE.search(name)
            or name.split(".")[0].casefold() in _DEVICES
            or len(name.encode()) > 255
        ):
            raise ValueError(f"class_names must be safe as folder names, got {name!r}: {cure}")
        folded = unicodedata.normalize("NFC", name).casefold()
        if folded in seen:
            raise ValueError(
                f"class_names must differ in more than case, got {seen[folded]!r} and {name!r}: "
                f"{cure}"
            )
        seen[folded] = name
    if folder_splits(class_names, None, "all"):
        raise ValueError(f"class_names must not be train and test, which name splits: {cure}")
    for name in class_names:
        if is_hidden(name):
            raise ValueError(f"class_names must not hold {name!r}, which readers pass over: {cure}")


def _on_disk(raw: int) -> int:
    return -(-png_bytes(raw) // BLOCK_BYTES) * BLOCK_BYTES


FOLDER_OF_PICTURES = Format(
    SUFFIXES, recognise, folder_records, takes_value_range=True, takes_unit=True,
    takes_label_column=True, reads_class_list=True, hint_fn=hint,
    writer=Writer(
        write_folder, _on_disk, lists_classes=True, many_files=True, check_fn=check_folder_names
    ),
)  # fmt: skip
