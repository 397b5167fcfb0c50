"""Decides which classes there are: as the data state them, or as declared when they are opened.

A list of classes is published as it is. So it is never counted in labels, which are private: one
record with label 11 would publish twelve classes.
"""

from __future__ import annotations

from collections.abc import Sequence

from dpgen.images.images import check_class_names

Classes = int | Sequence[str]  # how many there are, named "0", "1" and so on; or their names

MAX_CLASSES = 65_536  # numbered ones are listed by name, which must not fill the memory
NO_CLASSES = ("all",)


def class_list(classes: Classes) -> tuple[str, ...]:
    """The names of declared classes, in label order. Raises ValueError for none."""
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
    """The classes of data with labels: those that the data state, else those that are declared.

    Args:
        stated: what the data's own headers name.
        declared: what was named when the data were opened, known from elsewhere.
        name: of the data, for the message.
        place: where in such data their names could stand, for the message.
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
    """Refuses a declaration that says something else than the data, or the facts, state."""
    number = isinstance(classes, int) and classes == len(stated) and stated != NO_CLASSES
    if number or class_list(classes) == stated:
        return
    there = "no classes" if stated == NO_CLASSES else f"the classes {', '.join(stated)!s:.200}"
    raise ValueError(
        f"classes must be what {name} state, got {classes!r:.200}: they state {there}; drop "
        "--classes"
    )
