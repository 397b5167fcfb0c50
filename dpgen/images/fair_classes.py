"""Says of each class which target and which group it stands for, so that labels can be drawn in
which the two are independent, and classifiers be compared between groups.

It is a declaration about class names, which are public; nothing here reads an image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from dpgen.settings import nearest
from dpgen.storage.files import read_json, read_toml

TABLES = ("classes", "targets", "groups")
AXES = {"targets": "target", "groups": "group"}  # by table: what a class has one of
EXAMPLE = 'ill_f = ["ill", "f"]'


@dataclass(frozen=True)
class FairClasses:
    """The target and the group of each class, and how often each of them is drawn.

    A target is what a classifier is to tell (ill, well), a group whom it must treat alike (f, m).
    Every target has a class in every group; several classes may share a target and a group.

    Args:
        classes: (target, group) by class name.
        targets: weight of each target, greater than 0; only their proportions count. None: equal.
        groups: likewise of the groups.

    Raises:
        ValueError: a pair of target and group has no class, a weight is not valid or is missing, or
            there is only one target or group.
    """

    classes: Mapping[str, tuple[str, str]]
    targets: Mapping[str, float] | None = None
    groups: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.classes, Mapping):
            raise ValueError(f"classes must be a table as {EXAMPLE}, got {self.classes!r:.60}")
        for name, pair in self.classes.items():
            texts = isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2
            if not texts or not all(isinstance(one, str) and one for one in pair):
                raise ValueError(
                    f"class {name!r:.60} must have a target and a group, as {EXAMPLE}, "
                    f"got {pair!r:.60}"
                )
        pairs = {name: (pair[0], pair[1]) for name, pair in self.classes.items()}
        object.__setattr__(self, "classes", pairs)
        for axis, names in (("targets", self.target_names), ("groups", self.group_names)):
            if len(names) < 2:
                raise ValueError(
                    f"there must be at least two {axis}, got {', '.join(names)!r:.60}: nothing is "
                    "to be balanced"
                )
            _check_weights(axis, getattr(self, axis), names)
        for (target, group), members in self.cells.items():
            if not members:
                raise ValueError(
                    f"no class has the target {target!r:.60} and the group {group!r:.60}, so the "
                    "two cannot be independent: each target needs a class in each group"
                )

    @property
    def target_names(self) -> tuple[str, ...]:
        """Returns the targets in the order of the classes that name them first."""
        return tuple(dict.fromkeys(target for target, _ in self.classes.values()))

    @property
    def group_names(self) -> tuple[str, ...]:
        """Returns the groups in the order of the classes that name them first."""
        return tuple(dict.fromkeys(group for _, group in self.classes.values()))

    @property
    def cells(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """Returns the classes of each pair of a target and a group, group by group."""
        found: dict[tuple[str, str], list[str]] = {
            (target, group): [] for group in self.group_names for target in self.target_names
        }
        for name, pair in self.classes.items():
            found[pair].append(name)
        return {pair: tuple(names) for pair, names in found.items()}

    def of(self, class_names: Sequence[str]) -> FairClasses:
        """Returns the same with the classes in label order. Raises ValueError unless they are
        exactly these.
        """
        for name in self.classes:
            if name not in class_names:
                raise ValueError(
                    f"--fair: there is no class {name!r:.60}: {nearest(name, list(class_names))}"
                )
        missing = [name for name in class_names if name not in self.classes]
        if missing:
            raise ValueError(
                "--fair must name the target and the group of every class, missing: "
                f"{', '.join(missing):.200}"
            )
        ordered = {name: self.classes[name] for name in class_names}
        return FairClasses(ordered, self.targets, self.groups)


def read_fair(path: Path) -> FairClasses:
    """Reads the classes of a TOML or JSON file: a table ``classes`` with a line as
    ``ill_f = ["ill", "f"]`` for each class, and where wanted the tables ``targets`` and ``groups``
    with weights, as ``ill = 30``.

    Raises ValueError, with the name of the file, for anything else.
    """
    readers = {".toml": read_toml, ".json": read_json}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"--fair takes a .toml or .json file, got {str(path)!r:.200}")
    tables: Any = reader(path)
    if not isinstance(tables, dict) or "classes" not in tables:
        raise ValueError(
            f"{path} must hold a table 'classes' that gives each class its target and its group, "
            f"as {EXAMPLE}"
        )
    for name in tables:
        if name not in TABLES:
            raise ValueError(
                f"{path} must hold the tables {', '.join(TABLES)}, got {name!r:.60}: "
                f"{nearest(name, list(TABLES))}"
            )
    try:
        return FairClasses(**tables)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def exact(weight: float) -> Fraction:
    """Returns a weight as the decimal number that it is written as, without rounding.

    >>> exact(0.1)
    Fraction(1, 10)
    """
    return Fraction(repr(weight))


def parity_gap(table: Sequence[Sequence[int]]) -> float | None:
    """Computes the demographic parity gap: the most by which the share of an outcome differs from
    one group to another, in [0, 1]; None where a group has no image.

    >>> parity_gap([[30, 10], [20, 20]])
    0.25

    Args:
        table: number of images by group (rows) and outcome.
    """
    shares = [[Fraction(n, sum(row)) for n in row] for row in table if sum(row)]
    if len(shares) < len(table):
        return None
    return float(max(max(column) - min(column) for column in zip(*shares, strict=True)))


def _check_weights(
    axis: str, weights: Mapping[str, float] | None, names: Sequence[str]
) -> None:
    if weights is None:
        return
    if not isinstance(weights, Mapping):
        raise ValueError(f"{axis} must be a table of weights, got {weights!r:.60}")
    for name, weight in weights.items():
        if name not in names:
            raise ValueError(
                f"there is no {AXES[axis]} {name!r:.60}: {nearest(name, list(names))}"
            )
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not 0 < weight < math.inf:
            raise ValueError(
                f"the weight of {AXES[axis]} {name!r:.60} must be a number greater than 0, "
                f"got {weight!r:.60}"
            )
    missing = [name for name in names if name not in weights]
    if missing:
        raise ValueError(
            f"{axis} must have a weight for each {AXES[axis]} or not be there, missing: "
            f"{', '.join(missing):.200}"
        )
