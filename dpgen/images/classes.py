"""Decides which classes there are: those that the data state, or those declared on opening.

A list of classes is published as it is. It is therefore never derived from labels, which are
private: one record with label 11 would publish twelve classes.
"""

from __future__ import annotations

from collections.abc import Sequence

from dpgen.images.images import check_class_names

Classes = int | Sequence[str]  # a number of classes, named "0", "1" and so on; or their names

MAX_CLASSES = 65_536  # numbered classes are listed by name, which must not fill the memory
NO_CLASSES = ("all",)


def class_list(classes: Classes) -> tuple[str, ...]:
    """Returns the names of declared classes, in label order. Raises ValueError for an invalid
    declaration.
    """
    if isinstance(classes, str) or not isinstance(classes, int | Sequence):
        raise ValueError(f"classes must be a number or a list of names, got {classes!r:.60}")
    if not isinstance(classes, int):
        names = tuple(classes)
        if not all(isinstance(name, str) for name in names):
            raise ValueError(f"classes must be named by text, got {classes!r:.200}")
        check_class_names(names)
        return names
    if isinstance(classes, bool) or not 1 <= classes <= MAX_CLASSES:
        raise ValueError(f"classes must number 1 to {MAX_CLASSES}, got {classes!r:.60}")
    return tuple(str(k) for k in range(classes))


def parse_classes(text: str) -> Classes:
    """Parses the value of `--classes`: ``10``, or ``cat,dog``."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > 1:
        return parts
    if not (parts[0].isascii() and parts[0].isdigit()):
        raise ValueError(f"--classes takes N or NAME,NAME as in 10 or cat,dog; got {text!r:.60}")
    return int(parts[0])


def settle_classes(
    stated: tuple[str, ...] | None, declared: tuple[str, ...] | None, *, name: str, place: str = ""
) -> tuple[str, ...]:
    """Returns the classes of data with labels: those that the data state, else those declared.

    Args:
        stated: the classes that the data's own headers name.
        declared: the classes that were named when the data were opened.
        name: name of the data, for the message.
        place: where such data can state their class names, for the message.

    Raises:
        ValueError: neither is given.
    """
    if stated is not None:
        return stated
    if declared is None or declared == NO_CLASSES:
        inside = f", or in the data ({place})" if place else ""
        raise ValueError(
            f"{name} has labels and does not say which classes there are, and private labels are "
            "not counted: declare them with --classes N or --classes NAME,NAME (classes=N in "
            f"Python), as class_names in a facts file{inside}"
        )
    return declared


def check_declared(classes: Classes, stated: tuple[str, ...], *, name: str) -> None:
    """Refuses a declaration that differs from what the data, or the facts, state."""
    number = isinstance(classes, int) and classes == len(stated) and stated != NO_CLASSES
    if number or class_list(classes) == stated:
        return
    there = "no classes" if stated == NO_CLASSES else f"the classes {', '.join(stated)!s:.200}"
    raise ValueError(
        f"classes must be what {name} state, got {classes!r:.200}: they state {there}; drop "
        "--classes"
    )
