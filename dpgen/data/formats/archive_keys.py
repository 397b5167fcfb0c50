"""Which arrays of an npz archive are images and labels, and of which split, from their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dpgen.data.formats.labels import LABEL_WORDS, WHOLE_NAMES
from dpgen.data.formats.splits import splits_in, told_by, words
from dpgen.data.formats.unit_ids import check_unit_column

CLASS_NAMES = "class_names"
IMAGE_WORDS = {"images", "image", "imgs", "img", "x", "data", "pixels"}
_NUMBERED = {"arr_0": "images", "arr_1": "labels"}  # what numpy.savez calls arrays without a name


class Keys(NamedTuple):
    """The names of a split's arrays; labels are None where it has none, and so are units where no
    ids are asked for.
    """

    images: str
    labels: str | None
    units: str | None = None


def keys_by_split(
    names: Sequence[str], path: Path, unit: str | None = None
) -> dict[str, Keys]:  # fmt: skip
    """Returns the arrays of each split, "" where the names tell none.

    As ``images`` and ``labels``; ``x_train``, ``y_train``, ``x_test`` and ``y_test`` (Keras);
    ``train_images``, ``train_labels``, ``val_images`` and so on (MedMNIST). An array of no such
    name is refused, and so are two of one kind.

    Args:
        names: of all arrays.
        path: of the archive, for messages.
        unit: the name of the array of unit ids, if they are asked for: ``person`` is ``person``, or
            ``train_person`` and ``test_person``.
    """
    if unit is not None:
        check_unit_column(unit, [unit], str(path))
        if _side(unit) is not None or unit == CLASS_NAMES:
            raise ValueError(f"{path}: {unit!r:.60} holds no unit ids: rename the array")
    sides: dict[tuple[str, str], str] = {}
    for name in names:
        if name == CLASS_NAMES:
            continue
        side, found = _side(name, unit), splits_in(name)
        place = (next(iter(found), ""), side or "")
        if side is None or len(found) > 1 or place in sides:
            raise _unlike(names, path)
        sides[place] = name
    splits = {split for split, _ in sides}
    named = splits - {""}
    if any((split, "images") not in sides for split in splits) or not splits:
        raise _unlike(names, path)
    if named and "" in splits:
        raise ValueError(
            f"{path}: {sides['', 'images']} is of no split, beside arrays of {min(named)}: name "
            "each array for train or test, or drop it"
        )
    labelled = {split for split in splits if (split, "labels") in sides}
    if labelled and labelled != splits:
        raise ValueError(
            f"{path} must have labels for every split or for none, got {sorted(names)!s:.200}"
        )
    if unit is not None and any((split, "units") not in sides for split in splits):
        raise ValueError(
            f"{path} must hold an array {unit!r:.60} of unit ids, for each split where its arrays "
            f"are by split, got {sorted(names)!s:.200}: name the one with --unit"
        )
    return {
        split: Keys(
            sides[split, "images"], sides.get((split, "labels")), sides.get((split, "units"))
        )
        for split in splits
    }


def _side(name: str, unit: str | None = None) -> str | None:
    if name in _NUMBERED:
        return _NUMBERED[name]
    if unit is not None and (name == unit or (splits_in(name) and _bare(name) == _bare(unit))):
        return "units"
    rest = {word for word in words(name) if not told_by(word)}
    if rest and rest <= IMAGE_WORDS:
        return "images"
    return "labels" if rest and rest <= LABEL_WORDS | WHOLE_NAMES else None


def _bare(name: str) -> list[str]:
    """Returns the words of a name but for those of splits."""
    return [word for word in words(name) if not told_by(word)]


def _unlike(names: Sequence[str], path: Path) -> ValueError:
    cure = "save it anew, as a = numpy.load(OLD); numpy.savez(NEW, images=a[...], labels=a[...])"
    return ValueError(
        f"{path} must hold images or arr_0, and at most labels and class_names, or the same by "
        f"split, as x_train, y_train, x_test, y_test (an array of unit ids is named with --unit); "
        f"got {sorted(names)!s:.200}: "
        + (cure if path.suffix else "rename them")
    )
