"""The facts about a data set that may be known without spending privacy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self, get_args

from dpgen.privacy.accounting.relation import Adjacency, Relation
from dpgen.settings import nearest
from dpgen.storage.files import read_toml

Origin = Literal["stated", "declared", "named"]
UnitBound = Literal["declared", "enforced"]

FACTS_SCHEMA = "dpgen-facts/1"
# A statement lists the classes and has at most 1 MiB: these limits leave 64 KiB for the rest.
CLASS_LIST_BYTES, NAME_BYTES = 15 * 2**16, 10


@dataclass(frozen=True)
class PublicFacts:
    """The facts about private records that may be known without spending.

    Every rate and denominator comes from here. Guarantees: an instance is valid.

    Args:
        shape: (C, H, W) of every record; C is 1 or 3.
        class_names: one name per class, in label order; ``("all",)`` when there are no classes.
        n_records: the declared number of records, at least 1.
        adjacency: whether neighbouring data sets differ by adding or removing one record, or by
            replacing one.
        max_records_per_unit: the most records of one protected unit (a person); epsilon is stated
            for a whole unit.
        unit_bound: ``declared``, nothing checks that no unit has more; or ``enforced``, the reader
            counted the records of each unit by its id and left the surplus out. ``n_records`` is
            then the number of records that are used.
        origin: ``stated`` in a facts file; ``declared`` public by the person who runs the program,
            as the program read them from the data's headers; ``named``, like ``declared`` but with
            classes that no header states and that person names.
    """

    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    n_records: int
    adjacency: Adjacency = "add_remove"
    max_records_per_unit: int = 1
    origin: Origin = "declared"
    unit_bound: UnitBound = "declared"

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", _tuple_of(int, "shape", self.shape))
        object.__setattr__(self, "class_names", _tuple_of(str, "class_names", self.class_names))
        if len(self.shape) != 3 or min(self.shape) < 1 or self.shape[0] not in (1, 3):
            raise ValueError(
                f"shape must be (channels, height, width) with 1 or 3 channels, got {self.shape}"
            )
        check_class_names(self.class_names)
        _check_count("n_records", self.n_records)
        _check_count("max_records_per_unit", self.max_records_per_unit)
        if self.max_records_per_unit > self.n_records:
            raise ValueError(
                f"max_records_per_unit must lie in 1..n_records = {self.n_records}, "
                f"got {self.max_records_per_unit}"
            )
        for name, choices in (
            ("adjacency", get_args(Adjacency)),
            ("origin", get_args(Origin)),
            ("unit_bound", get_args(UnitBound)),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}"
                )

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape))
        classes = "no classes" if self.n_classes == 1 else f"{self.n_classes} classes"
        return f"{self.n_records} records of {shape}, {classes} ({self.origin} public)"

    @property
    def n_classes(self) -> int:
        """Returns the number of classes, 1 when there are none."""
        return len(self.class_names)

    @property
    def relation(self) -> Relation:
        """Returns the relation of neighbouring data sets."""
        return Relation(self.adjacency, self.max_records_per_unit)

    def to_dict(self) -> dict[str, Any]:
        """Returns the facts as JSON values, from which ``from_dict`` restores them exactly. A
        declared bound is not mentioned, as in facts of versions that enforced none.
        """
        bound = {} if self.unit_bound == "declared" else {"unit_bound": self.unit_bound}
        return {
            "schema": FACTS_SCHEMA,
            "shape": list(self.shape),
            "class_names": list(self.class_names),
            "n_records": self.n_records,
            "adjacency": self.adjacency,
            "max_records_per_unit": self.max_records_per_unit,
            "origin": self.origin,
            **bound,
        }

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Self:
        """Reads the facts strictly: an unknown key is an error that names the nearest known one.

        Args:
            table: ``shape`` and ``n_records``, and any other fields; without ``class_names`` there
                are no classes.
        """
        known = [field.name for field in fields(cls)]
        for key in table:
            if key not in (*known, "schema"):
                raise ValueError(f"unknown key {key!r} in the facts: {nearest(str(key), known)}")
        if table.get("schema", FACTS_SCHEMA) != FACTS_SCHEMA:
            raise ValueError(f"schema must be {FACTS_SCHEMA!r}, got {table['schema']!r}")
        for key in ("shape", "n_records"):
            if key not in table:
                raise ValueError(f"the facts must state {key}, got only {sorted(table)}")
        values = {key: value for key, value in table.items() if key != "schema"}
        return cls(**{"class_names": ("all",)} | values)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a facts file (TOML, the fields at top level); the facts are then ``stated``."""
        table = read_toml(Path(path))
        if "origin" in table:
            raise ValueError(
                f"facts file {path} must not set origin, got {table['origin']!r}: "
                "facts read from a file are 'stated'"
            )
        if "unit_bound" in table:
            raise ValueError(
                f"facts file {path} must not set unit_bound, got {table['unit_bound']!r}: --unit "
                "enforces it, by unit ids"
            )
        try:
            return cls.from_dict(table | {"origin": "stated"})
        except ValueError as error:
            raise ValueError(f"facts file {path}: {error}") from error


def check_class_names(class_names: tuple[str, ...]) -> None:
    """Refuses an empty list of class names, one that is too long for a statement, an empty or
    repeated name, and control characters.
    """
    if not class_names:
        raise ValueError("class_names must name at least one class; without classes it is ('all',)")
    seen: set[str] = set()
    n_bytes = sum(len(name.encode(errors="replace")) + NAME_BYTES for name in class_names)
    if n_bytes > CLASS_LIST_BYTES:
        raise ValueError(
            f"class_names must take at most {CLASS_LIST_BYTES} bytes with {NAME_BYTES} more for "
            f"each, got {n_bytes} for {len(class_names)} names: shorten them"
        )
    for name in class_names:
        if not name or any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
            raise ValueError(
                f"class_names must be non-empty and without control characters, got {name!r}"
            )
        if any("\ud800" <= letter <= "\udfff" for letter in name):  # a folder's name, undecodable
            raise ValueError(f"class_names must be text in UTF-8, got {name!r}: rename the folder")
        if name in seen:
            raise ValueError(f"class_names must be distinct, got {name!r} twice")
        seen.add(name)


def _tuple_of(kind: type, name: str, values: object) -> tuple[Any, ...]:
    if not isinstance(values, (list, tuple)):
        raise ValueError(f"{name} must be a list of {kind.__name__}, got {values!r}")
    for value in values:
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{name} must hold only {kind.__name__}, got {value!r}")
    return tuple(values)


def _check_count(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**63:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r:.60}")
