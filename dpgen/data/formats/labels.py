"""Labels: by what names they go, and which of the declared classes each of them is."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from dpgen.data.formats.records import as_labels, check_labels, labels_of
from dpgen.data.formats.splits import words
from dpgen.images.classes import NO_CLASSES, settle_classes

LABEL_WORDS = {
    "label", "labels", "class", "classes", "cls", "target", "targets", "category", "categories",
    "diagnosis",
}  # fmt: skip
MORE_CLASSES = (
    ": declare as many classes as there are, or where labels do not count from 0 name their "
    "numbers, as --classes 1,2 (classes=['1', '2'] in Python)"
)
NO_LABEL = (
    ": a negative number is often no label, then leave these records out; if it is a class, name "
    "the numbers, as --classes=-1,1 (classes=['-1', '1'] in Python)"
)
_WHOLE = re.compile(r"-?[0-9]+\.0+")  # as pandas writes whole numbers beside missing ones
_TRUTH = {"false": False, "true": True}  # text that stands for a truth value, in any case
_MARKS = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}  # in a column of a class
WHOLE_NAMES = {"y", "gt"}  # too short to count among other words


def is_label_name(name: str) -> bool:
    """Returns whether a column, key or array goes by a name that is usual for labels, in any case.
    """
    found = words(name)
    return bool(LABEL_WORDS & set(found)) or (len(found) == 1 and found[0] in WHOLE_NAMES)


def label_name(names: Iterable[str], where: str, wanted: str | None = None) -> str | None:
    """Returns the one of the names that labels go by, ``label`` before all others; None where none
    does.

    Raises ValueError where two do, and where the one that is wanted is not there.

    Args:
        names: of columns or keys.
        where: the words that name their table in a message.
        wanted: the one that holds labels, as ``--label-column`` names it.
    """
    names = list(names)
    if wanted is not None:
        if names.count(wanted) != 1:
            raise ValueError(
                f"{where} must have one label column {wanted!r:.60}, got {names!s:.200}: name one "
                "of these with --label-column"
            )
        return wanted
    found = [name for name in names if is_label_name(name)]
    exact = [name for name in found if name.lower() == "label"]
    if len(exact) == 1:
        return exact[0]
    if len(found) > 1:
        raise ValueError(
            f"{where} must have one label column, got {found!s:.200}: name the one to read with "
            "--label-column NAME"
        )
    return found[0] if found else None


def refuse_columns_of_classes(columns: Mapping[str, Sequence[object]], where: str) -> None:
    """Refuses columns of which exactly one is marked in every row: each stands for a class.

    Args:
        columns: values by name, all as many.
        where: the words that name their table in a message.
    """
    marks = {name: [_MARKS.get(str(one).lower()) for one in own] for name, own in columns.items()}
    found = {name: own for name, own in marks.items() if None not in own}
    rows = zip(*found.values(), strict=True)
    if len(found) > 1 and all(sum(mark or 0 for mark in row) == 1 for row in rows):
        raise ValueError(
            f"{where}: the columns {', '.join(found)!s:.200} mark one class in each row, and "
            "labels are read from one column: add a column label with the class's name, as "
            "table[[...]].idxmax(axis=1) of pandas makes it, or name a column with --label-column"
        )


def tell_unlabelled(subject: str, names: Iterable[str], *, stacklevel: int) -> None:
    """Warns, on the owner's screen, that none of the names of columns or keys is one of labels.

    Args:
        subject: the words that say where none is, and what is taken instead, if anything.
        names: what is passed over.
        stacklevel: as `warnings.warn` counts it from the caller.
    """
    warnings.warn(
        f"{subject}; passed over: {', '.join(names)!s:.200}. If one holds labels, name it with "
        "--label-column",
        stacklevel=stacklevel + 1,
    )


def tell_other_labels(
    names: Iterable[str], label: str | None, wanted: str | None, where: str, *, stacklevel: int
) -> None:
    """Warns, on the owner's screen, where another column is named like labels than the one that is
    read, and nobody has named that one.

    Args:
        names: of all columns.
        label: the one that is read, if any.
        wanted: the one that was named with ``--label-column``, if any.
        where: the words that name their table in a message.
        stacklevel: as `warnings.warn` counts it from the caller.
    """
    others = [name for name in names if name != label and is_label_name(name)]
    if label is not None and wanted is None and others:
        warnings.warn(
            f"{where}: labels are read from {label!r:.60}, and {', '.join(others)!s:.200} passed "
            "over: name another one with --label-column if that is not meant",
            stacklevel=stacklevel + 1,
        )


def settled(
    values: Sequence[int | str] | np.ndarray,
    declared: tuple[str, ...] | None,
    *,
    name: str,
    stated: tuple[str, ...] | None = None,
    place: str = "",
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns the labels as int64 (N,) and the class names.

    Text is the name of a class. A number is the position of its class, but where all the declared
    names are numbers and not 0, 1, 2 and so on: there it is the name, too, as 499 of 0, 499 and
    998. Of two classes, False is the first and True the second, which is told, but where they are
    named false and true.

    Args:
        values: (N,), whole numbers, text, or all truth values.
        declared: classes named when the data were opened.
        name: of the data, for messages.
        stated: classes that the data name.
        place: where in such data class names could stand, for the message.
    """
    values = _as_meant(values, declared if stated is None else stated, name)
    texts = [value for value in values if isinstance(value, str)]
    if texts and len(texts) < len(values):
        raise ValueError(f"{name}: labels must be all numbers or all text, got both")
    if texts and stated is None and declared in (None, NO_CLASSES):
        raise ValueError(
            f"{name}: a label must be a whole number, got {texts[0]!r:.60}; text is read as the "
            "name of a class where --classes NAME,NAME (classes=[...] in Python) or a facts file "
            "lists the classes, which are public and not counted in private labels"
        )
    found = np.zeros(0, np.int64) if texts else as_labels(values, name)
    names = settle_classes(stated, declared, name=name, place=place)
    if stated is None and not texts and _are_values(names):
        texts = [str(value) for value in found.tolist()]
    if texts:
        found = _by_name(texts, names, name)
    check_labels(found, len(names), name, _cure(found, stated))
    if stated is None:
        _warn_of_empty(found, names, name)
    return found, names


def _cure(labels: np.ndarray, stated: tuple[str, ...] | None) -> str:
    if len(labels) and labels.min() < 0:
        return NO_LABEL if stated is None else NO_LABEL.partition(";")[0]
    return "" if stated else MORE_CLASSES


def _as_meant(
    values: Sequence[int | str] | np.ndarray, names: tuple[str, ...] | None, name: str
) -> Sequence[int | str] | np.ndarray:
    """Returns the labels, with truth values as the positions or names of two classes, and text such
    as 1.0 as whole numbers where no class is named so.
    """
    kinds = {values.dtype.type} if isinstance(values, np.ndarray) else set(map(type, values))
    truth = kinds <= {bool, np.bool_}
    if kinds & {bool, np.bool_} and not truth:
        raise ValueError(f"{labels_of(name)} must be all truth values or none, got both")
    if not len(values) or not (truth or kinds <= {str}):
        return values
    words = [str(value) for value in values]
    if not truth and names is not None and set(words) <= set(names):
        return values
    if not truth and all(_WHOLE.fullmatch(word) for word in words):
        return [int(word.partition(".")[0]) for word in words]
    words = [word.lower() for word in words]
    if not set(words) <= _TRUTH.keys() or names is None or names == NO_CLASSES:
        return [int(_TRUTH[word]) for word in words] if truth else values
    if len(names) != 2:
        raise ValueError(
            f"{labels_of(name)} are False and True, and the classes are {', '.join(names)!s:.200}: "
            "name two, that of False first, as --classes NAME,NAME (classes=[...] in Python)"
        )
    if {one.lower() for one in names} == _TRUTH.keys():
        return [next(one for one in names if one.lower() == word) for word in words]
    warnings.warn(
        f"{labels_of(name)} are False and True: False is class {names[0]}, True is class "
        f"{names[1]}",
        stacklevel=3,
    )
    return [int(_TRUTH[word]) for word in words]


def _are_values(names: tuple[str, ...]) -> bool:
    """Returns whether the names are numbers other than those of the positions."""
    whole = all(re.fullmatch("0|-?[1-9][0-9]*", name) for name in names)
    return whole and names != tuple(str(k) for k in range(len(names)))


def _by_name(texts: Sequence[str], names: tuple[str, ...], name: str) -> np.ndarray:
    number = {one: k for k, one in enumerate(names)}
    plain = {unicodedata.normalize("NFC", one): k for k, one in enumerate(names)}
    if len(plain) == len(names):  # é is one letter or two, and nobody sees which
        number, texts = plain, [unicodedata.normalize("NFC", text) for text in texts]
    for i, text in enumerate(texts):
        if text not in number:
            raise ValueError(
                f"{name}: labels must name one of the classes {', '.join(names)!s:.200}, got "
                f"{text!r:.60} at record {i}: correct it, or list all classes with --classes"
            )
    return np.array([number[text] for text in texts], np.int64)


def _warn_of_empty(labels: np.ndarray, names: tuple[str, ...], name: str) -> None:
    """Warns whoever opens the data, on their own screen, where most declared classes are empty."""
    n_empty = len(names) - len(np.unique(labels))
    if len(labels) and len(names) > 2 and 2 * n_empty > len(names):
        warnings.warn(
            f"{name}: {n_empty} of the {len(names)} declared classes have no record; where labels "
            "skip numbers, name those that there are, as --classes 0,499,998 (classes=[...] in "
            "Python)",
            stacklevel=3,
        )
