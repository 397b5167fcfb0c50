"""Defines neighbouring data sets: the unit that is protected, and how it changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Adjacency = Literal["add_remove", "replace_one"]


@dataclass(frozen=True)
class Relation:
    """Neighbouring data sets differ by one unit, a record or a person with several.

    A price means nothing without its relation, so every function that prices an event takes one.

    Args:
        adjacency: ``add_remove``, all records of the unit are there or none; ``replace_one``, they
            are replaced by those of another unit.
        max_records_per_unit: the most records of one unit, at least 1.
    """

    adjacency: Adjacency
    max_records_per_unit: int

    def __post_init__(self) -> None:
        if self.adjacency not in get_args(Adjacency):
            raise ValueError(
                f"adjacency must be one of {', '.join(get_args(Adjacency))}, got {self.adjacency!r}"
            )
        m = self.max_records_per_unit
        if isinstance(m, bool) or not isinstance(m, int) or m < 1:
            raise ValueError(f"max_records_per_unit must be a whole number of at least 1, got {m}")

    @property
    def unit(self) -> str:
        return "record" if self.max_records_per_unit == 1 else "person"

    @property
    def phrase(self) -> str:
        """Completes "with respect to ..."."""
        m = self.max_records_per_unit
        change = "replacing" if self.adjacency == "replace_one" else "adding or removing"
        return f"{change} one record" if m == 1 else f"{change} up to {m} records of one person"
