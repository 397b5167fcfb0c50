"""The rows that a leg trains, and the options that they share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Row(NamedTuple):
    """A row: a method on a data set at an epsilon."""

    dataset: str
    method: str
    epsilon: float

    @classmethod
    def parse(cls, text: str) -> Row:
        try:
            dataset, method, epsilon = text.split(":")
            return cls(dataset, method, float(epsilon))
        except ValueError:
            raise ValueError(f"a row must be DATASET:METHOD:EPSILON, got {text!r}") from None

    @property
    def name(self) -> str:
        return f"{self.dataset}-{self.method}-{self.epsilon:g}"


@dataclass(frozen=True)
class Leg:
    """The options that all rows of a call share.

    Args:
        data: folder of the data sets' folders.
        out: folder of runs, rows and the installation's key.
        deadline: end of the leg, in seconds since the epoch.
        until: name of the checkpoint after which it stops; None for none.
        seed: seed of public randomness.
        delta, samples: delta of every run, and number of images of every set.
        device: "auto" or "cpu".
        assignments: settings that replace the recipe's.
        threads: number of threads of each row.
    """

    data: Path
    out: Path
    deadline: float
    until: str | None
    seed: int
    delta: float
    samples: int
    device: str
    assignments: tuple[str, ...]
    threads: int
