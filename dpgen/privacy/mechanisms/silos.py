"""Silos: shards that the data bring with them, as hospitals or branches; theorem A2-S."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpgen.storage.canonical import digest


@dataclass(frozen=True)
class Silos:
    """The silos of a data set, each of which is a shard of its own.

    The silo id of a record is a part of the record, as its label is. All fields are public: they
    are declared by whoever runs the training and never follow from the records. A silo may be
    without records.

    Args:
        ids: where the silo ids of records stand, in words: a column, or "folder".
        names: the ids of all silos, in ascending order, at least one.
        max_records: the most records of a silo that its teacher sees, at least 1.
    """

    ids: str
    names: tuple[str, ...]
    max_records: int

    def __post_init__(self) -> None:
        if not self.names or list(self.names) != sorted(set(self.names)):
            raise ValueError(
                f"silos must be distinct names in ascending order, got {self.names!s:.80}"
            )
        if (
            isinstance(self.max_records, bool)
            or not isinstance(self.max_records, int)
            or self.max_records < 1
        ):
            raise ValueError(
                f"max_records_per_silo must be a whole number of at least 1, got "
                f"{self.max_records!r}"
            )

    def numbers(self, ids: Sequence[str]) -> np.ndarray:
        """Returns the number of each record's silo, its place among the names, (N,) int64. Raises
        ValueError for a record of a silo that is not among them.
        """
        known = {name: number for number, name in enumerate(self.names)}
        for i, own in enumerate(ids):
            if own not in known:
                raise ValueError(
                    f"record {i} is of silo {own!r:.60}, which is not among the {len(known)} silos "
                    "that were declared: add it to them, or leave the record out"
                )
        return np.array([known[own] for own in ids], dtype=np.int64)

    @property
    def sentence(self) -> str:
        """Says in words what is declared public of them."""
        return (
            f"declared public by you: the list of {len(self.names)} silos ({self.ids}), each a "
            f"shard with a teacher of its own, which sees at most {self.max_records} of its records"
        )

    @property
    def settings(self) -> dict[str, Any]:
        """Returns what a charge and a certificate say of them; the names by their digest."""
        return {
            "by": "silo",
            "ids": self.ids,
            "names_sha256": digest(list(self.names)),
            "max_records": self.max_records,
        }
