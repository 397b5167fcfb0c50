"""The label of each record of tar shards, from what stands beside its picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dpgen.data.formats.labels import tell_unlabelled
from dpgen.data.formats.pairs import Pair, stated_value
from dpgen.data.formats.splits import glued_splits, is_split_folder
from dpgen.images.classes import NO_CLASSES

CAPTION_WORDS = 4  # a text of so many words is no class name


def pair_labels(
    pairs: Sequence[tuple[Path, Pair]], classes: tuple[str, ...] | None
) -> list[int | str] | None:
    """Returns the label of each record: from the files beside it, else a .txt, else its folder;
    None where the records have none.

    Args:
        pairs: the records of all shards, each with its shard.
        classes: the names of the classes, where they are known.
    """
    found = [_agreed(path, pair, classes) for path, pair in pairs]
    if all(label is None for label in found):
        found = _texts(pairs, classes) or _folders(pairs, classes) or []
        _tell_keys(pairs, found)
    if None in found:
        path, pair = pairs[found.index(None)]
        raise ValueError(
            f"{path}: {pair.key} must have a label, .cls or .json, like the other records"
        )
    return [label for label in found if label is not None] or None


def _agreed(path: Path, pair: Pair, classes: tuple[str, ...] | None) -> int | str | None:
    """Returns the one label that all files beside a picture give."""
    values = dict.fromkeys(pair.labels.values())
    numbers = [value for value in values if isinstance(value, int)]
    texts = [value for value in values if isinstance(value, str)]
    named = classes is not None and len(numbers) == len(texts) == 1 and texts[0] in classes
    if len(values) > 1 and not (named and classes and classes.index(texts[0]) == numbers[0]):
        said = ", ".join(f"{member} says {value!r:.40}" for member, value in pair.labels.items())
        raise ValueError(
            f"{path}: {pair.key} must have one label, got two: {said}; correct or remove one"
        )
    return next(iter(values), None)


def _texts(
    pairs: Sequence[tuple[Path, Pair]], classes: tuple[str, ...] | None
) -> list[int | str | None] | None:
    """Returns the .txt beside the pictures as labels; None where there is none, or captions."""
    texts = [pair.text for _, pair in pairs]
    if not any(texts) or any(text and len(text.split()) >= CAPTION_WORDS for text in texts):
        return None
    found = [
        stated_value(pair.text.encode(), f"{path}: {pair.key}.txt") if pair.text else None
        for path, pair in pairs
    ]
    words = [value for value in found if isinstance(value, str)]
    if words and classes is not None and len(classes) == 1 and classes != NO_CLASSES:
        return [classes[0]] * len(pairs)
    if words and classes in (None, NO_CLASSES):
        path, pair = pairs[found.index(words[0])]
        raise ValueError(
            f"{path}: {pair.key}.txt may be a label or a caption, got {words[0]!r:.60}: name the "
            "classes with --classes NAME,NAME, or take all pictures for one class with --classes 1"
        )
    return found


def _folders(
    pairs: Sequence[tuple[Path, Pair]], classes: tuple[str, ...] | None
) -> list[int | str | None] | None:
    """Returns the folders of the pictures as labels; None where all lie in one."""
    parts = [pair.key.split("/")[:-1] for _, pair in pairs]
    glued = glued_splits({part for own in parts for part in own})
    folders = [
        next((part for part in reversed(own) if not (is_split_folder(part) or part in glued)), "")
        for own in parts
    ]
    names = sorted(set(folders))
    if len(names) < 2:
        return None
    if classes is not None and len(classes) == 1 and classes != NO_CLASSES:
        return [classes[0]] * len(pairs)
    if classes is None or not set(names) <= set(classes):
        raise ValueError(
            f"{pairs[0][0]}: its pictures lie in the folders {', '.join(names)!s:.200} and have no "
            "labels: name the classes with --classes NAME,NAME if the folders are classes, or take "
            "all pictures for one class with --classes 1"
        )
    return list(folders)


def _tell_keys(pairs: Sequence[tuple[Path, Pair]], found: Sequence[object]) -> None:
    """Warns, on the owner's screen, where JSON beside the pictures has no label in it."""
    name, keys = next(
        ((f"{path}: {pair.key}", pair.keys) for path, pair in pairs if pair.keys), ("", ())
    )
    if keys and not found:
        subject = f"{name}: its JSON has no key that is named like a label"
        tell_unlabelled(subject, keys, stacklevel=3)
