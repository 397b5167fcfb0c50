"""A small data set whose every read is seen, tiny settings, and an accountant that remembers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dpgen.auditing import branches, coins, isolation, keys, long_run
from dpgen.data.private import PrivateDataset
from dpgen.generator import drawing
from dpgen.images.images import PublicFacts
from dpgen.methods.dp_sad import DPSAD, DPSADSettings
from dpgen.methods.dpdm import DPDM, DPDMSettings
from dpgen.networks.denoiser_config import PRESETS, Preset
from dpgen.privacy.accounting import accountant as accounting
from dpgen.privacy.accounting import forms
from dpgen.privacy.accounting.accountant import Adjacency, Budget
from dpgen.privacy.statements import statement
from dpgen.privacy.verification import promise
from dpgen.stages.teacher import TeacherSettings
from dpgen.training.distillation import Distillation

BUDGET = Budget(0.3, 1e-3)
# Files that take a minute or more, the longest first.
LONGEST = ("tests/mutations/test_mutations.py", "tests/test_cli_evaluation.py")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the files, the longest begin: none of them is left for the
    end, when the other processes have nothing to do.
    """
    if hasattr(config, "workerinput"):
        places = {name: place for place, name in enumerate(LONGEST)}
        items.sort(key=lambda item: places.get(item.nodeid.split("::")[0], len(places)))


@pytest.fixture(scope="session", autouse=True)
def no_power_cuts() -> Iterator[None]:
    """``os.fsync`` without its wait for the disk, which was half of a small fit: no test cuts the
    power, and a kill loses nothing that was written. A closed descriptor is an error as ever. Tests
    of what is synced, and of disks that fail at it, put a function of their own in this place.
    """

    def checked(descriptor: int) -> None:
        os.fstat(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", checked)
        yield


@pytest.fixture
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The preset "tiny" as one level of eight channels, with every kind of layer of the real one
    but those between levels.
    """
    monkeypatch.setitem(PRESETS, "tiny", Preset((8,), 1, 4, 99, 0, "tests"))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images under one seed are drawn 32 at a time: of 256, a preview keeps a tenth."""
    monkeypatch.setattr(drawing, "BLOCK", 32)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Networks this small spend their time waiting for threads; and one thread has one rounding."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation of its own: key and ledgers."""
    monkeypatch.setenv("DPGEN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


_ANSWERS: dict[str, Any] = {}


def _remembered(function: Callable[..., Any]) -> Callable[..., Any]:
    def ask(event: Any, *rest: Any) -> Any:  # noqa: ANN401
        question = f"{function.__name__} {event!r} {rest}"
        if question not in _ANSWERS:
            _ANSWERS[question] = function(event, *rest)
        return _ANSWERS[question]

    return ask


@pytest.fixture
def remembering_accountant(monkeypatch: pytest.MonkeyPatch) -> None:
    """The accountants of production, which are asked the same questions by every fit."""
    monkeypatch.setattr(accounting, "_curve", _remembered(accounting._curve))
    opinion = _remembered(accounting.second_opinion)
    for module in (statement, promise):
        monkeypatch.setattr(module, "second_opinion", opinion)
    for name in ("mu_of", "profile_of", "units_of"):
        monkeypatch.setattr(statement, name, _remembered(getattr(forms, name)))


@pytest.fixture
def remembered_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The eigenvectors of the labeller's features, which take longer than the rest of its fit, of
    the very same matrix once: one bit of another is another question.
    """
    function = torch.linalg.eigh

    def ask(matrix: Tensor) -> tuple[Tensor, Tensor]:
        if len(matrix) < 500:
            return function(matrix)
        question = f"eigh {hashlib.sha256(matrix.numpy()).hexdigest()}"
        if question not in _ANSWERS:
            _ANSWERS[question] = function(matrix)
        values, vectors = _ANSWERS[question]
        return values.clone(), vectors.clone()

    monkeypatch.setattr(torch.linalg, "eigh", ask)


class Records:
    """A source of uint8 records that calls ``on_read`` before every read."""

    kind, public = "test", False

    def __init__(
        self, pixels: np.ndarray, labels: Sequence[int], class_names: tuple[str, ...]
    ) -> None:
        self.pixels, self.labels, self.class_names = pixels, list(labels), class_names
        self.shape: tuple[int, int, int] = (1, *pixels.shape[1:])
        self.on_read: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor]:
        self.on_read()
        rows = np.asarray(indices)
        pixels = torch.from_numpy(self.pixels[rows][:, None].copy())
        return pixels, torch.tensor([self.labels[i] for i in rows])

    def raw_records(self) -> Iterator[tuple[np.ndarray, int]]:
        for pixels, label in zip(self.pixels, self.labels, strict=True):
            yield pixels[..., None], label

    def plus(self, pixels: np.ndarray, label: int) -> Records:
        """The neighbour with one more record, in the last slot."""
        more = np.concatenate([self.pixels, pixels[None]])
        return Records(more, [*self.labels, label], self.class_names)

    def but_last(self) -> Records:
        return Records(self.pixels[:-1], self.labels[:-1], self.class_names)


@pytest.fixture(scope="session")
def records() -> Records:
    """Thirty images of 8x8 in three classes."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (30, 8, 8), dtype=np.uint8)
    return Records(pixels, [i % 3 for i in range(30)], ("a", "b", "c"))


@pytest.fixture(scope="session")
def dataset() -> Callable[..., PrivateDataset]:
    """Private data with stated facts: 30 records, whatever the source holds."""

    def make(source: Records, adjacency: Adjacency = "add_remove") -> PrivateDataset:
        facts = PublicFacts((1, 8, 8), ("a", "b", "c"), 30, adjacency, origin="stated")
        return PrivateDataset(source, facts=facts, adjacency=adjacency)

    return make


@pytest.fixture(scope="session")
def untrained() -> Callable[..., DPSAD | DPDM]:
    """A method by its id with tiny settings: warm start, three private steps, three public ones."""

    def make(method: str, **teacher: Any) -> DPSAD | DPDM:  # noqa: ANN401
        own = {
            "warm_start_share": 0.5,
            "n_steps": 3,
            "n_draws": 2,
            "batch": 15,
            "bands": 4,
            "clip_norm": 0.05,
        }
        settings = TeacherSettings(**(own | teacher))
        if method == "dpdm":
            return DPDM(budget=BUDGET, settings=DPDMSettings(teacher=settings, sampling_steps=2))
        student = Distillation(n_steps=2, n_iterations=3, pool_size=20, batch_size=10)
        return DPSAD(budget=BUDGET, settings=DPSADSettings(teacher=settings, student=student))

    return make


@pytest.fixture
def short_audits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Audits that look at fewer releases, coins, keys and records."""
    shorter: dict[Any, dict[str, Any]] = {
        long_run: {"STRIDE": 64, "LARGE": 2**17},
        coins: {"STRIDE": 64, "N_STEPS": 9, "N_LONG_STEPS": 300, "N_LAGS": 2},
        keys: {"N_KEYS": 2**12, "SMALL": 16, "RECENT": 4, "JOINTS": ("", "/")},
        branches: {"N_STEPS": 8},
        isolation: {"N_ALONE": 8, "N_IMAGES": 1},
    }
    for module, numbers in shorter.items():
        for name, number in numbers.items():
            monkeypatch.setattr(module, name, number)
