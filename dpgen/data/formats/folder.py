"""A folder of pictures: one sub-folder per class, or none and no classes."""

from __future__ import annotations

import re
import unicodedata

import numpy as np

from dpgen.data.formats.blocks import Pieces
from dpgen.data.formats.format import Format, Head, Writer
from dpgen.data.formats.location import CLASS_LIST, Located
from dpgen.data.formats.picture_files import SUFFIXES, picture_format, unread_picture
from dpgen.data.formats.pictures import decode_picture_file, encode_png, png_bytes
from dpgen.data.formats.records import Records
from dpgen.data.formats.shards import Shard, numbered

BLOCK_BYTES = 4096  # what a file system gives a file at least
_UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f]|^\.|^ |[. ]$')
_DEVICES = {"con", "prn", "aux", "nul"}


def recognise(head: Head) -> bool:
    """Whether a file is one picture, of a format that is read."""
    found = picture_format(head.path.name, head.data)
    return found is not None and found.is_read and not head.gzipped


def hint(head: Head) -> str | None:
    """What is wrong with a file that is named like a picture that is read, and is another one."""
    if not head.path.name.lower().endswith(SUFFIXES):
        return None
    return unread_picture(head.path.name, head.data)


def folder_records(
    located: Located, value_range: tuple[float, float] | None, classes: tuple[str, ...] | None
) -> Records:
    """Records in the order of class folder and file name; classes in that of sorted folder names.

    The folders name the classes, so none are taken from a declaration.

    Where dataset.json lists the classes, as in a set written here, its order holds, and a listed
    class may be without a folder.
    """
    found = sorted({file.class_name for file in located.files if file.class_name is not None})
    names = located.class_names or tuple(found) or ("all",)
    for name in found:
        if name not in names:
            raise ValueError(
                f"{located.root / name} must be a class that {CLASS_LIST} lists, got {names}"
            )
    number = {name: i for i, name in enumerate(names)}
    paths = [file.path for file in located.chosen]
    labels = np.array(
        [0 if file.class_name is None else number[file.class_name] for file in located.chosen],
        np.int64,
    )
    return Records(
        kind="folder",
        labels=labels,
        class_names=names,
        decode_fn=lambda i: decode_picture_file(paths[i], value_range),
        name_fn=lambda i: str(paths[i]),
    )


def write_folder(shard: Shard, pieces: Pieces) -> None:
    """``<class>/000000.png``, numbered through the whole set.

    The caller syncs: a call per file takes minutes.
    """
    for index, pixels, label in numbered(shard, pieces):
        path = shard.folder / shard.class_names[label] / f"{index:0{shard.digits}d}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode_png(pixels))


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
    if {"train", "test"} <= set(class_names):
        raise ValueError(f"class_names must not be train and test, which name splits: {cure}")
    if "__MACOSX" in class_names:
        raise ValueError(f"class_names must not hold '__MACOSX', which readers pass over: {cure}")


def _on_disk(raw: int) -> int:
    return -(-png_bytes(raw) // BLOCK_BYTES) * BLOCK_BYTES


FOLDER_OF_PICTURES = Format(
    SUFFIXES, recognise, folder_records, takes_value_range=True, reads_class_list=True,
    hint_fn=hint,
    writer=Writer(
        write_folder, _on_disk, lists_classes=True, many_files=True, check_fn=check_folder_names
    ),
)  # fmt: skip
