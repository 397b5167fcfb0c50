"""Finds splits, for training or held out, by the words in the names of files and folders."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from dpgen.data.formats.location import DataFile, Split

AMBIGUOUS = "ambiguous"  # split of a file whose name has words of two splits
OTHER = "other"  # split of a folder beside those of the splits
_SPLIT_OF = {
    **dict.fromkeys(
        (
            "train", "training", "trainval", "trn", "trainings", "entrainement", "entraînement",
            "apprentissage", "entrenamiento", "treino", "treinamento", "addestramento", "обучение",
            "训练", "訓練", "学習",
        ), "train",
    ),
    **dict.fromkeys(
        (
            "test", "testing", "eval", "evaluation", "holdout", "heldout", "t10k", "tst", "prueba",
            "teste", "тест", "测试", "測試", "テスト",
        ), "test",
    ),
    **dict.fromkeys(
        (
            "val", "valid", "validation", "validate", "dev", "development", "validierung",
            "validierungs", "validación", "validacion", "validação", "валидация", "验证", "検証",
        ), "validation",
    ),
}  # fmt: skip
_SPLITS = frozenset(_SPLIT_OF.values())
ORDER = ("train", "test", "validation", OTHER)  # order of the records if all are read
_GLUE = sorted(_SPLIT_OF.keys() - {"t10k"}, key=len, reverse=True)
_MAY_GLUE = re.compile("|".join(_GLUE), re.IGNORECASE)
_ENDINGS = {"er", "ers", "ed", "able", "ing", "ings"}  # trainer, tested: other words
_COMPOUND = re.compile(r"(.+?)(?:set|data|daten|images?|imgs?|labels?|集)")  # trainset, testdata
_LETTERS = re.compile(r"[^\W\d_]+")
_T10K = re.compile(r"(?<![^\W_])t10k(?![^\W_])", re.IGNORECASE)
_HELD_OUT = re.compile(r"(?<![^\W_])h([oe])ld[\W_]out(?![^\W_])", re.IGNORECASE)
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
    text = _HELD_OUT.sub(r"h\1ldout", unicodedata.normalize("NFC", name))
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
    return len(splits_in(name)) == 1 and not without_split(name)


def told_by(word: str) -> str | None:
    """Returns the split that one word names, as ``val``, also in a compound, as ``testset``."""
    compound = _COMPOUND.fullmatch(word)
    return _SPLIT_OF.get(word) or (_SPLIT_OF.get(compound[1]) if compound else None)


def without_split(name: str) -> tuple[str, ...]:
    """Returns the words that stand neither for a split nor for data in general."""
    return tuple(word for word in words(name) if not told_by(word) and word not in _NEUTRAL)


def glued_splits(names: Iterable[str]) -> dict[str, str]:
    """Returns the split of names in which its word is glued to another, as ``xraytrain`` and
    ``xraytest``.

    Only names that are the same without these words, and of two splits, are such; so ``restrained``
    and ``latest`` are not. A name with the word by itself, as ``xray_test``, may be the other one.
    """
    groups: dict[str, dict[str, str]] = {}
    glued = set()
    for name in (name for name in names if _MAY_GLUE.search(name)):
        told = split_of(name)
        pairs = [(told, "".join(without_split(name)))] if told in _SPLITS else []
        if not told:
            pairs = list(_unglued(name))
            glued.update([name] if pairs else [])
        for split, stem in pairs:
            groups.setdefault(stem, {})[name] = split
    found: dict[str, str] = {}
    for group in groups.values():
        if len(set(group.values())) > 1 and not glued.isdisjoint(group):
            for name, split in group.items():
                found[name] = split if found.get(name, split) == split else AMBIGUOUS
    return found


def _unglued(name: str) -> Iterable[tuple[str, str]]:
    """Yields what a name may tell: a split, and the name without the split's word and digits."""
    found = [word for word in words(name) if word not in _NEUTRAL]
    for i, word in enumerate(found):
        compound = _COMPOUND.fullmatch(word)
        core = compound[1] if compound else word
        for glue in _GLUE:
            front, back = core.removesuffix(glue), core.removeprefix(glue)
            for rest in {front, back} - {core, "", *_ENDINGS}:
                yield _SPLIT_OF[glue], "".join([*found[:i], rest, *found[i + 1 :]])


def with_named_splits(files: Iterable[DataFile]) -> list[DataFile]:
    """Returns the files with the splits that their names tell, where they have none; of a picture
    behind the name of its class.
    """
    named = [(file, _without_class(file)) for file in files]
    told = [(file, name, file.split or split_of(name)) for file, name in named]
    glued = glued_splits({name for _, name, _ in told})
    return [replace(file, split=split or glued.get(name, "")) for file, name, split in told]


def _without_class(file: DataFile) -> str:
    name, class_name = file.path.name, file.class_name
    if class_name and name.lower().startswith(class_name.lower()):
        return name[len(class_name) :]
    return name


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
    glued = glued_splits(names)
    if glued and AMBIGUOUS not in glued.values() and glued.keys() == set(names):
        return glued
    found = {**glued, **found}
    rests = {without_split(name) for name in names}
    if len(found) == len(names) and len(rests) == 1 and len(set(found.values())) > 1:
        return found
    if path is None:
        return {}
    for name, one in found.items():
        for other, held_out in found.items():
            both_glued = name in glued and other in glued
            alike = both_glued or without_split(name) == without_split(other)
            if one == "train" != held_out and alike:
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

    If there are none, all records serve as any of them. ``test`` takes the validation records if
    there are no test records. What becomes of validation records is told on the owner's screen.
    Raises ValueError if the requested split is not there.

    Args:
        found: the splits that were found; "" among them is ignored.
        split: the requested split.
        name: name of the data, for the message.
    """
    told = _SPLITS & set(found)
    if split == "all" or not told:
        return frozenset(found)
    if split in told:
        if split == "train" and "validation" in told:
            _tell_validation(name, serves="test" not in told)
        return frozenset({split})
    if split == "test" and "validation" in told:
        _tell_validation(name, serves=True)
        return frozenset({"validation"})
    raise ValueError(
        f"{name} has no {split} split, only {' and '.join(sorted(told))}: use --split all or name "
        "that one"
    )


def _tell_validation(name: str, *, serves: bool) -> None:
    """Warns whoever opens the data of a validation split that they may have forgotten.

    Args:
        name: name of the data.
        serves: whether it is read as the test split.
    """
    text = (
        "its validation split serves as test, as there is none"
        if serves
        else "its validation split is read neither to train nor as test: --split validation reads "
        "it, and --split all everything"
    )
    warnings.warn(f"{name}: {text}", stacklevel=2)


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
