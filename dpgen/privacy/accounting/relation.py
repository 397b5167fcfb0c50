"""Defines neighbouring data sets: the unit that is protected, and how it changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Adjacency = Literal["add_remove", "replace_one", "fixed_slots"]


@dataclass(frozen=True)
class Relation:
    """Neighbouring data sets differ by one unit: a record, a person with several, or a teacher.

    A price means nothing without its relation, so every function that prices an event takes one.

    Args:
        adjacency: ``add_remove``, all records of the unit are there or none; ``replace_one``, they
            are replaced by those of another unit; ``fixed_slots``, for teachers in slots of fixed
            number and names: the teacher of one slot is another one, or there is none.
        max_records_per_unit: the most records of one unit, at least 1; of slots, the
            most teachers that are exchanged.
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
    def is_of_teachers(self) -> bool:
        """Returns whether the unit is a teacher with all records behind it."""
        return self.adjacency == "fixed_slots"

    @property
    def unit(self) -> str:
        if self.is_of_teachers:
            return "teacher"
        return "record" if self.max_records_per_unit == 1 else "person"

    @property
    def phrase(self) -> str:
        """Completes "with respect to ..."."""
        m = self.max_records_per_unit
        if self.is_of_teachers:
            if m > 1:
                return f"exchanging up to {m} teachers, with all records behind each"
            return "exchanging one teacher, with all records behind it, for any other or for none"
        change = "replacing" if self.adjacency == "replace_one" else "adding or removing"
        return f"{change} one record" if m == 1 else f"{change} up to {m} records of one person"
