"""Records whose gradients are known, noise that is switched off, and a private data set on disk."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dpgen.data.export import write_images
from dpgen.data.private import PrivateDataset
from dpgen.images.images import Images, PublicFacts
from dpgen.privacy.accounting import forms
from dpgen.privacy.accounting.accountant import Budget, epsilon_of, second_opinion
from dpgen.privacy.accounting.events import event_to_json
from dpgen.privacy.ledger.charges import lines_of_run
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.mechanisms.contributions import Block
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.privacy.mechanisms.draws import Draws
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.privacy.plan import Plan, Stage
from dpgen.privacy.statements import mixture, statement
from dpgen.privacy.statements.certificate import read_statement, statement_bytes, tree_hash
from dpgen.privacy.statements.statement import inherited, statement_of
from dpgen.privacy.verification import configuration, promise
from dpgen.runs.released import hashes, write_copy
from dpgen.settings import CONFIG_SCHEMA
from dpgen.storage.canonical import canonical

KEY = bytes(range(32))
LIMIT = Budget(epsilon=50.0, delta=1e-5)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation of its own for every test."""
    monkeypatch.setenv("DPGEN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


_PRICES: dict[str, Any] = {}


def _remembering(real: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(real)
    def priced(event: Any, *rest: Any) -> Any:  # noqa: ANN401
        key = f"{real.__name__} {event_to_json(event)} {rest}"
        if key not in _PRICES:
            _PRICES[key] = real(event, *rest)
        return _PRICES[key]

    return priced


@pytest.fixture
def remembering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every event is priced once by statements and their checks: the real price, not the real
    patience.
    """
    functions = (epsilon_of, second_opinion, forms.mu_of, forms.profile_of, forms.units_of)
    for function in functions:
        for module in (statement, promise, configuration, mixture):
            name = function.__name__
            monkeypatch.setattr(module, name, _remembering(function), raising=False)


class Silent:
    """The NoiseSource that adds nothing and keeps the sums: what a sensitivity oracle looks at.

    rate 1 puts every slot into every step; other rates use the production coins.
    """

    def __init__(self, key: bytes = KEY) -> None:
        self._keyed = KeyedNoise(key, "silent")
        self.totals: dict[str, Tensor] = {}
        self.stds: list[float] = []

    def for_question(self, question: str) -> Silent:
        return self

    def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        self.totals[f"{release} {name}"] = total.clone()
        self.stds.append(std)
        return total.double()

    def coins(self, n: int, rate: float, *, release: int) -> np.ndarray:
        return np.arange(n) if rate == 1 else self._keyed.coins(n, rate, release=release)

    def draws(self, slots: np.ndarray, **where: Any) -> Draws:  # noqa: ANN401
        return self._keyed.draws(slots, **where)

    def tag(self, content: bytes) -> bytes:
        return self._keyed.tag(content)

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


@dataclass(frozen=True)
class Linear:
    """Linear in the parameters: the gradient is x for ``w`` and 10 x, by class, for ``table``."""

    scale: float = 1.0

    def draw(self, draws: Draws) -> dict[str, Tensor]:
        return {"z": draws.normal(1)}

    def loss(
        self, parameters: Mapping[str, Tensor], pixels: Tensor, label: Tensor,
        draws: Mapping[str, Tensor],
    ) -> Tensor:  # fmt: skip
        x = self.scale * pixels.flatten()
        chosen = parameters["table"].index_select(0, label[None])[0]
        return (parameters["w"] * x).sum() + 10 * (chosen * x).sum() + 0 * draws["z"].sum()


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


def make_run(
    folder: Path,
    *,
    ledger: Path,
    multiplier: float = 6.0,
    delta: float = 1e-5,
    facts: PublicFacts | None = None,
) -> Path:
    """A run of one un-sampled release, stated by the production objects; its weights are bytes.
    Runs of one ledger have the same records, those of two ledgers share none.
    """
    folder.mkdir(parents=True)
    source = make_source(seed=zlib.crc32(str(ledger).encode()))
    data = make_dataset(source, folder, ledger=ledger, facts=facts)
    stage = Stage("means", NoisySum(Echo(), multiplier))
    keys = StageKeys(folder.with_name(folder.name + "-keys"))
    data.begin(str(folder), keys, Plan((stage,), data.facts.relation))
    data.release(stage.mechanism, label="means")
    data.finish("means", stage.mechanism)
    return state_run(folder, data, str(folder), (stage,), delta=delta)


def state_run(
    folder: Path, data: PrivateDataset, run: str, stages: tuple[Stage, ...], *, delta: float
) -> Path:
    """Writes what the folder of a finished run holds, by the production objects; its weights are
    bytes.
    """
    config = {
        "schema": CONFIG_SCHEMA,
        "method": "x",
        "version": version("dpgen"),
        "budget": {"epsilon": LIMIT.epsilon, "delta": delta},
        "seed": 0,
        "settings": {"mode": "y"},
    }
    (folder / "config.json").write_text(canonical(config))
    (folder / "facts.json").write_text(canonical(data.facts.to_dict()))
    (folder / "model.safetensors").write_bytes(bytes(range(64)))
    for stage in stages:
        data.finish(stage.label, stage.mechanism)
    files = hashes(folder)
    data.ledger.released(run, files)
    ledger = data.ledger.lines()
    lines = lines_of_run(ledger, run)
    stated = statement_of(
        "model",
        lines=lines,
        delta=delta,
        mechanism={"id": "x/y", "stages": {s.label: s.mechanism.settings for s in stages}},
        files=write_copy(folder, lines, files),
        data_set=data.account(ledger),
    )
    (folder / "privacy.json").write_bytes(statement_bytes(stated))
    return folder


def make_set(
    folder: Path,
    run: Path,
    *,
    n: int = 4,
    seed: int = 0,
    layout: str = "npz",
    names: tuple[str, ...] = ("a", "b"),
    side: int = 4,
) -> Path:
    """A set as if drawn from a run: noise for images, by the production writers."""
    pixels = torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return write_images(
        [Images(pixels, torch.arange(n) % len(names))],
        folder,
        format=layout,  # type: ignore[arg-type]
        n_images=n,
        class_names=names,
        certificate=lambda made: inherited(
            read_statement(run), files=tree_hash(made), synthetic={"samples": n, "seed": seed}
        ),
    )


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
    Linear = Linear
    parameters = staticmethod(parameters)
    source = staticmethod(make_source)
    dataset = staticmethod(make_dataset)
    run = staticmethod(make_run)
    state = staticmethod(state_run)
    set = staticmethod(make_set)


@pytest.fixture(scope="session")
def kit() -> Kit:
    return Kit()
