"""Finds splits, for training or held out, by the words in the names of files and folders."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from pathlib import Path

from dpgen.data.formats.location import DataFile, Split

AMBIGUOUS = "ambiguous"  # split of a file whose name has words of two splits
OTHER = "other"  # split of a folder beside those of the splits
_SPLIT_OF = {
    **dict.fromkeys(("train", "training", "trainval"), "train"),
    **dict.fromkeys(
        ("test", "testing", "eval", "evaluation", "holdout", "heldout", "t10k"), "test"
    ),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), "validation"),
}
_SPLITS = frozenset(_SPLIT_OF.values())
ORDER = ("train", "test", "validation", OTHER)  # order of the records if all are read
_COMPOUND = re.compile(r"(.+?)(?:set|data|images?|imgs?|labels?)")  # trainset, testdata
SPLIT_COLUMNS = ("split", "subset", "partition")  # of tables, in lower case
_LETTERS = re.compile(r"[^\W\d_]+")
_T10K = re.compile(r"(?<![^\W_])t10k(?![^\W_])", re.IGNORECASE)
HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # XRaysTrain, trainA
_NEUTRAL = {
    "set", "sets", "data", "dataset", "split", "images", "image", "imgs", "img", "pictures",
    "labels", "folder", "files",
}  # fmt: skip


def words(name: str) -> list[str]:
    """Returns the words of a name in lower case: runs of letters, cut where capitals begin a new
    one.

    A word is whole: ``constrained`` does not hold ``train``, ``train2017`` and ``trainA`` do.
    """
    text = unicodedata.normalize("NFC", name)
    found = ["t10k"] * len(_T10K.findall(text))
    for run in _LETTERS.findall(_T10K.sub(" ", text)):
        found += [word.lower() for word in HUMP.sub(" ", run).split()]
    return found


def splits_in(name: str) -> frozenset[str]:
    """Returns the splits for which a name has words: train, test, validation."""
    return frozenset(split for word in words(name) if (split := told_by(word)))


def split_of(name: str) -> str:
    """Returns the split in a file's name; "" for none, `AMBIGUOUS` for two."""
    found = splits_in(name)
    return AMBIGUOUS if len(found) > 1 else next(iter(found), "")


def is_split_folder(name: str) -> bool:
    """Returns whether a folder's name is that of a split only, as ``val`` or ``train2017``."""
    return len(splits_in(name)) == 1 and not _rest(name)


def told_by(word: str) -> str | None:
    """Returns the split that one word names, as ``val``, also in a compound, as ``testset``."""
    compound = _COMPOUND.fullmatch(word)
    return _SPLIT_OF.get(word) or (_SPLIT_OF.get(compound[1]) if compound else None)


def _rest(name: str) -> tuple[str, ...]:
    """Returns the words that stand neither for a split nor for data in general."""
    return tuple(word for word in words(name) if not told_by(word) and word not in _NEUTRAL)


def folder_splits(names: Collection[str], path: Path | None, split: Split) -> dict[str, str]:
    """Returns the split of each sub-folder, `OTHER` for one of none; empty where they are no
    splits.

    They are splits if one is for training and one is held out, or if all of them are splits.
    ``train`` alone among other names may also be a class: that raises ValueError, except for the
    split ``all``, for which such folders are classes.

    Args:
        names: names of all sub-folders.
        path: their parent, for the message; None skips the check.
        split: the split to read.
    """
    found = {name: one for name in names if (one := split_of(name)) in _SPLITS}
    whole = {name: one for name, one in found.items() if is_split_folder(name)}
    told = set(whole.values())
    if "train" in told and len(told) > 1 or whole and len(whole) == len(names):
        return {name: whole.get(name, OTHER) for name in names}
    rests = {_rest(name) for name in names}
    if len(found) == len(names) and len(rests) == 1 and len(set(found.values())) > 1:
        return found
    if path is None:
        return {}
    for name, one in found.items():
        for other, held_out in found.items():
            if one == "train" != held_out and _rest(name) == _rest(other):
                raise ValueError(
                    f"{path}: {name}/ and {other}/ look like splits, and the other folders do not "
                    f"fit: move the pictures into train/ and test/, or point at {path / name}"
                )
    unclear = [*whole, *(name for name in names if split_of(name) == AMBIGUOUS)]
    if unclear and split != "all":
        beside = next((name for name in names if name not in unclear), unclear[-1])
        raise ValueError(
            f"{path}: {unclear[0]}/ may be a split or a class, beside {beside}/: use --split all "
            "if the folders are classes, else move what is held out into test/ and the rest into "
            "train/"
        )
    return {}


def chosen_splits(found: Collection[str], split: Split, name: str) -> frozenset[str]:
    """Returns which of the found splits are read.

    If there are none, all records serve as train and as test. ``test`` takes the validation records
    if there are no test records. Raises ValueError if the requested split is not there.

    Args:
        found: the splits that were found; "" among them is ignored.
        split: the requested split.
        name: name of the data, for the message.
    """
    told = _SPLITS & set(found)
    if split == "all" or not told:
        return frozenset(found)
    if split in told:
        return frozenset({split})
    if split == "test" and "validation" in told:
        return frozenset({"validation"})
    raise ValueError(
        f"{name} has no {split} split, only {' and '.join(sorted(told))}: use --split all or name "
        "that one"
    )


def choose(files: list[DataFile], split: Split, path: Path) -> list[DataFile]:
    """Returns the files of a split. Raises ValueError for files of no split beside those of one."""
    if split == "all" or not any(file.split for file in files):
        return files
    unclear = _first(files, AMBIGUOUS)
    if unclear:
        raise ValueError(
            f"{unclear.path} has words of two splits in its name: rename it, or read everything "
            "with --split all"
        )
    unnamed = _first(files, "")
    if unnamed:
        named = next(file for file in files if file.split)
        raise ValueError(
            f"{unnamed.path} is of no split, while {named.path.name} is of {named.split}: name "
            "each for train or test, or read everything with --split all"
        )
    chosen = chosen_splits({file.split for file in files}, split, str(path))
    return [file for file in files if file.split in chosen]


def _first(files: Iterable[DataFile], split: str) -> DataFile | None:
    return next((file for file in files if file.split == split), None)
