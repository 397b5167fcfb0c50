"""One installation with runs that are begun on slices of one pool of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from dpgen.data.private import PrivateDataset
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.accounting.events import leaves
from dpgen.privacy.ledger import charges
from dpgen.privacy.ledger import privacy_ledger as ledger_module
from dpgen.privacy.ledger.privacy_ledger import PrivacyLedger
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.privacy.plan import Plan, Stage
from tests.relations import ADD_REMOVE

Kit = Any  # what conftest.py shares

POOL = torch.randint(256, (40, 1, 1, 3), generator=torch.Generator().manual_seed(5)).to(torch.uint8)
LIMIT = Budget(0.10, 1e-5)


class Installation:
    """Runs of one installation, on slices of one pool of images.

    Args:
        kit: what conftest.py shares.
        place: of the run folders.
    """

    def __init__(self, kit: Kit, place: Path) -> None:
        self.kit, self.place = kit, place

    def data(
        self, start: int, stop: int, *, label: int = 0, limit: Budget = LIMIT, **given: Any  # noqa: ANN401
    ) -> PrivateDataset:
        pixels = POOL[start:stop]
        labels = (torch.arange(len(pixels)) + label) % 2
        source = self.kit.ArraySource(pixels, labels, ("a", "b"))
        data = PrivateDataset(source, **given)
        data.open_ledger(limit, self.place)
        return data

    def run(self, name: str, start: int, stop: int, **given: Any) -> PrivateDataset:  # noqa: ANN401
        """Begins, or resumes, a run of two stages on the images from ``start`` to ``stop``."""
        data = self.data(start, stop, **given)
        stages = tuple(Stage(label, NoisySum(self.kit.Echo(), 6.0)) for label in ("one", "two"))
        data.begin(name, StageKeys(self.place / name), Plan(stages, ADD_REMOVE))
        return data


def runs_in(path: Path) -> list[str]:
    """The run of every charge."""
    return [line["run"] for line in PrivacyLedger(path).lines() if line["kind"] == "charge"]


def price_by_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each release costs 0.01."""

    def price(event: Any, delta: float, adjacency: str) -> float:  # noqa: ANN401
        return sum(leaf.steps for leaf in leaves(event)) / 100

    for module in (charges, ledger_module):
        monkeypatch.setattr(module, "epsilon_of", price)
