"""The label of each record of tar shards, from what stands beside its picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from dpgen.data.formats.companions import refuse_companions
from dpgen.data.formats.labels import tell_unlabelled
from dpgen.data.formats.location import is_hidden
from dpgen.data.formats.pairs import Pair, stated_value
from dpgen.data.formats.sidecars import STRUCTURED, is_short, may_list_labels
from dpgen.data.formats.splits import glued_splits, is_split_folder
from dpgen.images.classes import NO_CLASSES

_UNREAD = tuple(suffix for suffix in STRUCTURED if suffix != ".json")


def pair_labels(
    pairs: Sequence[tuple[Path, Pair]], classes: tuple[str, ...] | None,
    others: Sequence[tuple[Path, str]] = (), lists: Sequence[tuple[Path, str]] = (),
) -> list[int | str] | None:  # fmt: skip
    """Returns the label of each record: from the files beside it, else a .txt, else its folder;
    None where the records have none. Files that may hold them and are not read are an error.

    Args:
        pairs: the records of all shards, each with its shard.
        classes: the names of the classes, where they are known.
        others: names of the files that belong to no record, each with its shard.
        lists: those of them that name several pictures.
    """
    refuse_companions(path / f"{pair.key}.png" for path, pair in pairs)
    _require_one_key(pairs)
    found = [_agreed(path, pair, classes) for path, pair in pairs]
    if all(label is None for label in found):
        found = (
            _texts(pairs, classes)
            or _folders(pairs, classes)
            or _one_class(len(pairs), classes, others, lists)
            or []
        )
        _tell_keys(pairs, found)
    if None in found:
        path, pair = pairs[found.index(None)]
        raise ValueError(
            f"{path}: {pair.key} must have a label, .cls or .json, like the other records"
        )
    labels = [label for label in found if label is not None]
    _require_agreement(pairs, labels, classes)
    return labels or None


def _require_one_key(pairs: Sequence[tuple[Path, Pair]]) -> None:
    """Refuses labels of several keys of JSON, which need not mean the same."""
    known: dict[str, str] = {}
    for path, pair in pairs:
        if pair.label_key:
            known.setdefault(pair.label_key, f"{path}: {pair.key}")
    if len(known) > 1:
        said = ", ".join(f"{key!r:.40} in {where}" for key, where in list(known.items())[:2])
        raise ValueError(
            f"the JSON beside the pictures must have the label under one key, got {said}: rename "
            "one, or name the one that all have with --label-column"
        )


def _require_agreement(
    pairs: Sequence[tuple[Path, Pair]], labels: Sequence[int | str],
    classes: tuple[str, ...] | None,
) -> None:  # fmt: skip
    """Refuses labels that give pictures another class than their folders do, where all of these
    have names of classes that are no numbers.
    """
    folders = [pair.key.split("/")[-2] if "/" in pair.key else "" for _, pair in pairs]
    if classes is None or not set(folders) <= set(classes) or any(map(str.isdigit, folders)):
        return
    for (path, pair), folder, label in zip(pairs, folders, labels, strict=bool(labels)):
        name = label
        if isinstance(label, int):
            name = classes[label] if 0 <= label < len(classes) else ""
        if name in classes and name != folder:
            raise ValueError(
                f"{path}: {pair.key} is labelled {label!r:.60}, and its folder says "
                f"{folder!r:.60}: correct one of them"
            )


def passed_over(
    pairs: Sequence[tuple[Path, Pair]], others: Sequence[tuple[Path, str]],
    labels: Sequence[int | str] | None,
) -> dict[str, str]:  # fmt: skip
    """Returns why files in the shards are not read, by their kind, its number and an example."""
    kinds: dict[tuple[str, str], list[tuple[Path, str]]] = {}
    for path, name in others:
        last = PurePosixPath(name)
        why = "hidden" if any(map(is_hidden, last.parts)) else "no label is read from it"
        kinds.setdefault((last.suffix.lower() or last.name, why), []).append((path, name))
    for path, pair in pairs:
        if pair.text and (pair.labels or labels is None or not is_short(pair.text.encode())):
            why = "a caption, no label is read from it"
            kinds.setdefault((".txt", why), []).append((path, f"{pair.key}.txt"))
        if pair.keys:
            why = "no key that is named like a label"
            kinds.setdefault((".json", why), []).append((path, f"{pair.key}.json"))
    return {
        f"{len(found)} {kind} in tar shards, as {found[0][0].name}: {found[0][1]}": why
        for (kind, why), found in kinds.items()
    }


def _one_class(
    n_pairs: int, classes: tuple[str, ...] | None, others: Sequence[tuple[Path, str]],
    lists: Sequence[tuple[Path, str]],
) -> list[int | str | None] | None:
    """Returns one declared class for all records where other files may hold their labels; None
    where none may.
    """
    doubtful = [
        (path, name)
        for path, name in others
        if not any(map(is_hidden, PurePosixPath(name).parts))
        and (name.lower().endswith(_UNREAD) or may_list_labels(PurePosixPath(name).name))
    ] + list(lists)
    if not doubtful:
        return None
    if classes is not None and len(classes) == 1 and classes != NO_CLASSES:
        return [classes[0]] * n_pairs
    path, name = doubtful[0]
    raise ValueError(
        f"{path}: {name} may hold labels, which are read from a .cls, .json or .txt of the name of "
        "each picture, and no picture has one: save them so, or take all pictures for one class "
        "with --classes 1"
    )


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
    if not any(texts) or any(text and not is_short(text.encode()) for text in texts):
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
