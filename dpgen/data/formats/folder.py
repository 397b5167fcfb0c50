"""A folder of pictures: one sub-folder per class, or none and no classes."""

from __future__ import annotations

import numpy as np

from dpgen.data.formats.location import CLASS_LIST, Located
from dpgen.data.formats.pictures import LARGEST_FILE, decode_picture
from dpgen.data.formats.records import Records
from dpgen.storage.files import read_bytes


def folder_records(located: Located) -> Records:
    """Records in the order of class folder and file name; classes in that of sorted folder names.

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
        decode_fn=lambda i: decode_picture(read_bytes(paths[i], LARGEST_FILE), str(paths[i])),
        name_fn=lambda i: str(paths[i]),
    )
