"""``fault_rounds``, the package beside this file and behind ``scripts/faults.py``, and one small
world.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

TRAINING = "quick"
HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.append(HERE)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Data, and an undisturbed training and set. On one thread: a fork of a process whose threads
    have begun would wait for them.
    """
    from fault_rounds.world import SKETCH, TRAININGS, World

    # Not the labeller: its eigenvalues take longer than all the rest.
    TRAININGS[TRAINING] = ("pge", {**SKETCH, "sketch.labeller_share": "0"})
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    world = World(tmp_path_factory.mktemp("faults"))
    world.reference(f"train {TRAINING}")
    yield world
    torch.set_num_threads(n_threads)


@pytest.fixture
def small_blocks() -> None:
    """Blocks are as large as in the processes that are killed, which know no fixtures."""


@pytest.fixture(scope="session")
def training() -> str:
    """The one of that world."""
    return TRAINING


@pytest.fixture(autouse=True)
def one_thread(one_thread: None) -> None:
    """What `tests/conftest.py` makes, for every test of this folder."""
