"""Records whose gradients are known, noise that is switched off, and a private data set on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dpgen.data.images import PublicFacts
from dpgen.data.private import PrivateDataset
from dpgen.privacy.accounting import Budget
from dpgen.privacy.mechanisms import Block
from dpgen.privacy.noise import KeyedNoise

KEY = bytes(range(32))
LIMIT = Budget(epsilon=50.0, delta=1e-5)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation of its own for every test."""
    monkeypatch.setenv("DPGEN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


class Silent:
    """The NoiseSource that adds nothing and keeps the sums: what a sensitivity oracle looks at.

    rate 1 puts every slot into every step; other rates use the production coins.
    """

    def __init__(self, key: bytes = KEY) -> None:
        self._keyed = KeyedNoise(key, "silent")
        self.totals: dict[str, Tensor] = {}
        self.stds: list[float] = []

    def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        self.totals[f"{release} {name}"] = total.clone()
        self.stds.append(std)
        return total.double()

    def coins(self, n: int, rate: float, *, release: int) -> np.ndarray:
        return np.arange(n) if rate == 1 else self._keyed.coins(n, rate, release=release)

    def draws(self, slot: int, *, release: int) -> np.random.Generator:
        return self._keyed.draws(slot, release=release)

    def sum(self) -> Tensor:
        """Everything that was summed, as one vector."""
        parts = [self.totals[name].flatten() for name in sorted(self.totals)]
        return torch.cat(parts).double()


@dataclass
class Rows:
    """Records by slot, any floats: pixels (N, C, H, W), labels (N,), valid (N,)."""

    pixels: Tensor
    labels: Tensor
    valid: Tensor

    @property
    def n_slots(self) -> int:
        return len(self.labels)

    def read(self, slots: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        return self.pixels[slots], self.labels[slots], self.valid[slots]


def rows(vectors: Sequence[Sequence[float]] | Tensor, labels: Sequence[int] | None = None) -> Rows:
    """One record per vector (D,), of shape (1, 1, D)."""
    pixels = torch.as_tensor(vectors, dtype=torch.float32).reshape(-1, 1, 1, 3)
    wanted = torch.zeros(len(pixels), dtype=torch.int64)
    if labels is not None:
        wanted = torch.as_tensor(labels, dtype=torch.int64)
    valid = (wanted >= 0) & (wanted < 2)
    return Rows(pixels, torch.where(valid, wanted, 0), valid)


def linear_loss(
    parameters: Mapping[str, Tensor], pixels: Tensor, label: Tensor, draws: Mapping[str, Tensor]
) -> Tensor:
    """Linear in the parameters: the gradient is x for ``w`` and 10 x, by class, for ``table``."""
    x = pixels.flatten()
    chosen = parameters["table"].index_select(0, label[None])[0]
    return (parameters["w"] * x).sum() + 10 * (chosen * x).sum() + 0 * draws["z"].sum()


def no_draws(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"z": rng.standard_normal(1, dtype=np.float32)}


def parameters() -> dict[str, Tensor]:
    return {"w": torch.zeros(3), "table": torch.zeros(2, 3)}


@dataclass(frozen=True)
class Echo:
    """The statistic that hands records on as they are: nothing bounds it but the clip."""

    bound: float = 2.0
    n_classes: int = 2
    tables: dict[str, tuple[int, int]] = field(
        default_factory=lambda: {"own": (2, 3), "all": (1, 3)}
    )

    @property
    def settings(self) -> dict[str, Any]:
        return {"name": "Echo", "bound": self.bound}

    def __call__(self, pixels: Tensor, labels: Tensor) -> dict[str, Block]:
        x = pixels.flatten(1).double()
        return {"own": Block(3 * x, labels), "all": Block(x, torch.zeros_like(labels))}


class ArraySource:
    """A source in memory that remembers which records were read.

    Args:
        pixels: uint8 (N, C, H, W).
        on_read: called before every read.
    """

    kind, public = "array", False

    def __init__(self, pixels: Tensor, labels: Tensor, class_names: tuple[str, ...]) -> None:
        self.pixels, self.labels, self.class_names = pixels, labels, class_names
        self.shape = tuple(pixels.shape[1:])
        self.reads: list[list[int]] = []
        self.on_read: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor]:
        self.on_read()
        self.reads.append([int(i) for i in indices])
        return self.pixels[indices], self.labels[indices]

    def raw_records(self) -> Iterator[tuple[np.ndarray, int]]:
        for pixels, label in zip(self.pixels, self.labels, strict=True):
            yield pixels.permute(1, 2, 0).numpy(), int(label)


def make_source(n: int = 20, seed: int = 0, n_classes: int = 2) -> ArraySource:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (n, 1, 1, 3), generator=generator).to(torch.uint8)
    return ArraySource(pixels, torch.arange(n) % n_classes, ("a", "b")[:n_classes])


def make_dataset(
    source: ArraySource,
    folder: Path,
    *,
    limit: Budget = LIMIT,
    facts: PublicFacts | None = None,
    ledger: Path | None = None,
) -> PrivateDataset:
    """A data set with its ledger open."""
    data = PrivateDataset(source, facts=facts, ledger=ledger)
    data.open_ledger(limit, folder)
    return data


@dataclass(frozen=True)
class Kit:
    """What the tests of this folder share."""

    Silent = Silent
    Rows = Rows
    Echo = Echo
    ArraySource = ArraySource
    KEY = KEY
    LIMIT = LIMIT
    rows = staticmethod(rows)
    linear_loss = staticmethod(linear_loss)
    no_draws = staticmethod(no_draws)
    parameters = staticmethod(parameters)
    source = staticmethod(make_source)
    dataset = staticmethod(make_dataset)


@pytest.fixture(scope="session")
def kit() -> Kit:
    return Kit()
