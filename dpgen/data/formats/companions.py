"""Finds pictures that belong to other pictures, as masks, copies and versions, and are no records.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from dpgen.data.formats.location import DataFile, Located
from dpgen.data.formats.splits import words

_BESIDE = re.compile(  # names of what tools save beside a picture, behind its own
    r"(.+?)[\W_](?:masks?|seg|segmentation|gt|groundtruth|ground_truth|annotation|superpixels"
    r"|thumb|thumbnail|overlay|heatmap|depth)(?:[\W_]?\d+)?",
    re.IGNORECASE,
)
_PICTURES = {
    "images", "image", "imgs", "img", "pictures", "photos", "scans", "inputs", "jpegimages",
    "rgb",
}  # fmt: skip
_MASKS = {  # words of names
    "masks", "mask", "labels", "label", "annotations", "annotation", "annots", "annot",
    "segmentations", "segmentation", "seg", "segs", "groundtruth", "truth", "gt", "targets", "roi",
    "rois", "contours", "outlines", "overlays", "overlay", "heatmaps", "mattes", "trimaps",
}  # fmt: skip
FEW = 2  # twins up to here may be chance


def refuse_companions(paths: Iterable[Path]) -> None:
    """Refuses masks and the like beside the pictures that they belong to, which are no records of
    their own: ``1_mask.png`` beside ``1.png``, and ``1.png`` beside ``1.jpg`` where all are so.

    Args:
        paths: of all pictures.
    """
    by_stem: dict[Path, dict[str, list[Path]]] = {}
    doubtful = []
    for path in paths:
        by_stem.setdefault(path.parent, {}).setdefault(path.stem, []).append(path)
        match = _BESIDE.fullmatch(path.stem)
        doubtful += [] if match is None else [(path, match[1])]
    for path, stem in doubtful:
        if stem in by_stem[path.parent]:
            raise ValueError(
                f"{path} looks like a mask, or another picture made of the one that is called "
                f"{stem}, and not like a record: move these away; if they are records, rename them "
                "or list them in a metadata.csv with the columns file_name and label"
            )
    for stems in by_stem.values():
        _refuse_twins(list(stems.values()))


def _refuse_twins(stems: Sequence[list[Path]]) -> None:
    """Refuses the pictures of a folder where all those of one format have the names of others.

    Args:
        stems: the pictures of each name without suffix.
    """
    twins = [paths for paths in stems if len({path.suffix.lower() for path in paths}) > 1]
    alone = {path.suffix.lower() for paths in stems if len(paths) == 1 for path in paths}
    both = {path.suffix.lower() for paths in twins for path in paths}
    if len(twins) < FEW or both <= alone:
        return
    first, second = sorted(twins[0])[:2]
    raise ValueError(
        f"{first} and {second.name} have one name, and so have {len(twins) - 1} more pairs beside "
        "them: where one is the mask or a copy of the other, move these away; if all are records, "
        "rename them or list them in a metadata.csv with the columns file_name and label"
    )


def refuse_masks(located: Located, found: Sequence[str]) -> None:
    """Refuses folders of pictures and of their masks, which are no classes.

    Args:
        located: the pictures.
        found: names of their folders.
    """
    if located.class_names is not None:
        return
    pictures = next((name for name in found if name.lower() in _PICTURES), None)
    beside = next((name for name in found if not _MASKS.isdisjoint(words(name))), None)
    if pictures is not None and beside is not None:
        place = next(one.path.parent for one in located.files if one.class_name == pictures)
        raise ValueError(
            f"{located.root}: {pictures}/ and {beside}/ look like pictures and their masks or "
            f"annotations, and not like classes: point at {place}; if they are classes, rename them"
        )


def versions(files: Iterable[DataFile]) -> list[str]:
    """Returns two class folders whose pictures have the same names, which do not merely count, as
    ``t1/case_017.png`` and ``t2/case_017.png``; none where there are none.
    """
    names: dict[str, set[str]] = {}
    for file in files:
        if file.class_name is not None:
            names.setdefault(file.class_name, set()).add(file.path.stem)
    seen: dict[frozenset[str], str] = {}
    for folder, stems in sorted(names.items()):
        other = seen.setdefault(frozenset(stems), folder)
        if other != folder and len(stems) > FEW and not _counts(stems):
            return [other, folder]
    return []


def _counts(stems: Collection[str]) -> bool:
    """Returns whether names are few texts, each with numbers from its lowest to its highest."""
    numbers: dict[tuple[str, str], set[int]] = {}
    for stem in stems:
        part = re.fullmatch(r"(.*?)([0-9]+)([^0-9]*)", stem)
        if part is None:
            return False
        numbers.setdefault((part[1], part[3]), set()).add(int(part[2]))
    whole = all(max(found) - min(found) < len(found) for found in numbers.values())
    return whole and 2 * len(numbers) <= len(stems)
