"""The settings of a benchmark: methods, epsilons and seeds, from one TOML file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, get_args

from dpgen.settings import from_dict
from dpgen.storage.canonical import digest
from dpgen.storage.files import read_toml

MOST_CELLS = 10_000


@dataclass(frozen=True)
class Entry:
    """A method with its settings.

    Args:
        label: its unique name in tables and pictures.
        method: id of the method.
        settings: settings, as in a configuration file of `dpgen train`.
        teacher_of: label of an entry whose released teacher this one samples, with its own sampler:
            nothing is trained and nothing is charged again.
    """

    label: str
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    teacher_of: str | None = None


def _fast_networks() -> tuple[str, ...]:
    from dpgen.evaluation.utility import FAST

    return FAST


@dataclass(frozen=True)
class BenchmarkSettings:
    """The settings of a benchmark: what is compared, and how.

    Args:
        data: `digits` or a path.
        entries: methods with their settings.
        title: title of the report.
        epsilons: budgets, each positive.
        delta: delta of every budget; ``None``: min(1e-5, 1 / (10 n_records)).
        seeds: number of runs of every method at every epsilon: seeds 0, 1 and so on.
        n_samples: images with which each run is evaluated.
        public_data: declares that everyone has the data: cells then do not add up in one ledger.
        overlap: what to do when other ledgers hold some of the records, as for `dpgen train`:
            refuse, charge or separate.
        adjacency: what neighbouring data sets differ by.
        size, channels, classes: resize, convert and name the classes, as for `dpgen train`.
        features: the network whose features fidelity is computed from, a key of `FEATURE_NETWORKS`.
        reference: the split that fidelity compares with; papers use "train", which a generator may
            have copied.
        networks: classifiers whose accuracy on the test split is measured, keys of
            `utility.NETWORKS`.
        ceiling: whether real training images are evaluated, too, which reads them without any
            privacy.
        selection: how the methods' settings were chosen, for the report.
        inception_weights: file of the weights; ``None``: torch hub's copy.
    """

    data: str
    entries: tuple[Entry, ...]
    title: str = "dpgen benchmark"
    epsilons: tuple[float, ...] = (0.2, 1.0, 5.0, 10.0)
    delta: float | None = None
    seeds: int = 3
    n_samples: int = 10_000
    public_data: bool = False
    overlap: str = "refuse"
    adjacency: str = "add_remove"
    size: int | None = None
    channels: int | None = None
    classes: int | tuple[str, ...] | None = None
    features: str = "classifier"
    reference: str = "test"
    networks: tuple[str, ...] = field(default_factory=_fast_networks)
    ceiling: bool = False
    selection: str = ""
    inception_weights: str | None = None

    def __post_init__(self) -> None:
        labels = [entry.label for entry in self.entries]
        if any(not 0 < len(slug(label).encode()) <= 100 for label in labels):
            raise ValueError(f"labels must hold 1 to 100 letters or digits, got {labels!s:.200}")
        if not labels or len(set(map(slug, labels))) != len(labels):
            raise ValueError(f"methods must have labels, no two alike, got {labels}")
        for entry in self.entries:
            trained = [e.label for e in self.entries if e.teacher_of is None]
            if entry.teacher_of is not None and entry.teacher_of not in trained:
                raise ValueError(
                    f"teacher_of of {entry.label!r} must be the label of a method that is trained, "
                    f"got {entry.teacher_of!r}"
                )
        if not self.epsilons or any(not 0 < e < math.inf for e in self.epsilons):
            raise ValueError(f"epsilons must be positive numbers, got {self.epsilons}")
        n_cells = len(labels) * len(self.epsilons) * self.seeds
        if n_cells > MOST_CELLS:
            raise ValueError(f"there must be at most {MOST_CELLS} cells, got {n_cells}")
        for name in ("seeds", "n_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        self._check_names()

    def _check_names(self) -> None:
        """Looks the names up in the tables that hold them. Those load torch, which a process that
        only starts cells does without.
        """
        from dpgen.evaluation.feature_networks import FEATURE_NETWORKS
        from dpgen.evaluation.utility import NETWORKS
        from dpgen.privacy.ledger.shared_ledger import OverlapRule

        if self.features not in FEATURE_NETWORKS:
            names = " or ".join(FEATURE_NETWORKS)
            raise ValueError(f"features must be {names}, got {self.features!r}")
        if unknown := [name for name in self.networks if name not in NETWORKS]:
            names = ", ".join(NETWORKS)
            raise ValueError(f"networks must be among {names}, got {unknown[0]!r}")
        if self.overlap not in get_args(OverlapRule):
            rules = ", ".join(get_args(OverlapRule))
            raise ValueError(f"overlap must be one of {rules}, got {self.overlap!r}")
        if self.reference not in ("train", "test"):
            raise ValueError(f"reference must be train or test, got {self.reference!r}")

    @classmethod
    def load(cls, path: Path) -> BenchmarkSettings:
        """Reads a TOML file: the fields above, and a table ``[[methods]]`` for each entry."""
        values = read_toml(path)
        tables = values.pop("methods", [])
        if "entries" in values:
            raise ValueError(
                f"{path}: unknown setting 'entries': write a table [[methods]] for each"
            )
        if not isinstance(tables, list):
            raise ValueError(f"{path}: methods must be tables [[methods]], got {tables!r:.60}")
        entries = tuple(from_dict(Entry, table, "methods.") for table in tables)
        return from_dict(cls, {**values, "entries": entries})

    def entry(self, label: str) -> Entry:
        return next(entry for entry in self.entries if entry.label == label)

    def cells(self) -> list[Cell]:
        """Lists every cell, seed by seed, so that tables with fewer seeds are complete early."""
        return [
            Cell(entry.label, epsilon, seed)
            for seed in range(self.seeds)
            for epsilon in self.epsilons
            for entry in self.entries
        ]

    def identity(self, cell: Cell) -> str:
        """Hashes everything that a cell's numbers depend on, and nothing else."""
        common = asdict(self)
        for name in (
            "entries", "title", "epsilons", "seeds", "ceiling", "selection", "inception_weights",
            "overlap",
        ):  # fmt: skip
            del common[name]
        if self.classes is None:  # as in benchmarks of versions without this setting
            del common["classes"]
        entry = self.entry(cell.label)
        used = [entry] if entry.teacher_of is None else [entry, self.entry(entry.teacher_of)]
        return digest({**common, "entries": [asdict(e) for e in used], "cell": cell._asdict()})


class Cell(NamedTuple):
    """One run: a method's label, a budget and a seed."""

    label: str
    epsilon: float
    seed: int

    @property
    def name(self) -> str:
        return f"{slug(self.label)}-eps{self.epsilon:g}-seed{self.seed}"


def slug(label: str) -> str:
    """Converts a label to a folder's name."""
    return "".join(c if c.isalnum() else "-" for c in label.lower()).strip("-")
