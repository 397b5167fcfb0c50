"""Sets of every format with the pages that are made of their statement."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dpgen.data.export import write_images
from dpgen.data.private import PrivateDataset
from dpgen.images.images import Images, PublicFacts, to_float
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.privacy.plan import Plan, Stage
from dpgen.privacy.statements.certificate import tree_hash
from dpgen.privacy.statements.notice import Claim, inherited_notice, notice_of, unbounded
from dpgen.privacy.statements.statement import inherited, statement_of
from dpgen.release.cards import cards_of
from dpgen.stages.moments import ClassMeans

# Unsorted, with what Markdown, YAML and globs could take for something else.
NAMES = ("zebra", "Ameisenbär", "no", "red [fox] `x`", "犬")
N_IMAGES = 23


@pytest.fixture(autouse=True)
def own_home(home: Path) -> None:
    """An installation of its own for every test."""


@pytest.fixture
def parent(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The statement of a run that released class means of thirty records."""

    def make(names: tuple[str, ...] = NAMES, channels: int = 1, **relation: Any) -> dict[str, Any]:  # noqa: ANN401
        facts = PublicFacts((channels, 8, 8), names, 30, origin="stated", **relation)
        data = PrivateDataset(_Source(facts), facts=facts, adjacency=facts.adjacency)
        data.open_ledger(Budget(9.0, 1e-3), tmp_path)
        means = ClassMeans(facts.shape, len(names), centre=0.0, radius=8.0, count_weight=1.0)
        stage = Stage("means", NoisySum(means, 20.0))
        plan = Plan((stage,), facts.relation)
        data.begin("run", StageKeys(tmp_path / "keys"), plan)
        data.release(stage.mechanism, label="means")
        return statement_of(
            "model",
            lines=data.ledger.lines_of("run"),
            delta=1e-3,
            mechanism={"id": "x/y", "stages": {"means": stage.mechanism.settings}},
            files={},
            data_set=data.account(),
        )

    return make


@pytest.fixture
def drawn(tmp_path: Path, parent: Callable[..., dict[str, Any]]) -> Callable[..., Path]:
    """A set of noise, as if it was drawn from that run; with its pages unless told otherwise."""

    def make(
        layout: str, *, pages: bool = True, name: str | None = None, **given: Any  # noqa: ANN401
    ) -> Path:
        model = parent(**given)
        synthetic = {"samples": N_IMAGES, "labels": "uniform", "format": layout}
        return write_images(
            [noise(model["facts"])],
            tmp_path / (name or layout),
            format=layout,
            n_images=N_IMAGES,
            class_names=model["facts"]["class_names"],
            shard_size=10,
            certificate=lambda made: inherited(model, files=tree_hash(made), synthetic=synthetic),
            pages_fn=cards_of if pages else None,
        )

    return make


@pytest.fixture
def noticed(tmp_path: Path) -> Callable[..., Path]:
    """A set of a method without a guarantee."""

    def make(layout: str) -> Path:
        claim = Claim("x/paper", 1.25, "its own proof", unbounded(1e-3), "It fails.", "here", {})
        facts = {"class_names": list(NAMES), "shape": [1, 8, 8], "n_records": 30}
        model = notice_of(claim, files={}, facts=facts, data_set={})
        synthetic = {"samples": N_IMAGES, "labels": "uniform", "format": layout}
        return write_images(
            [noise(facts)],
            tmp_path / f"noticed-{layout}",
            format=layout,
            n_images=N_IMAGES,
            class_names=NAMES,
            certificate=lambda made: inherited_notice(
                model, files=tree_hash(made), synthetic=synthetic
            ),
            certificate_name="notice.json",
            pages_fn=cards_of,
        )

    return make


def noise(facts: dict[str, Any]) -> Images:
    """The images of every set, with one class that has none."""
    channels, height, width = facts["shape"]
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(
        0, 256, (N_IMAGES, channels, height, width), dtype=torch.uint8, generator=generator
    )
    n_classes = len(facts["class_names"])
    return Images(to_float(pixels), torch.arange(N_IMAGES) % max(1, n_classes - 1))


def reseal(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes the certificate of a set and seals it again, as a forger would."""
    from dpgen.privacy.statements.certificate import statement_bytes
    from dpgen.storage.canonical import digest

    path = folder / "privacy.json"
    statement = json.loads(path.read_text())
    del statement["sha256"]
    change(statement)
    path.write_bytes(statement_bytes({**statement, "sha256": digest(statement)}))


class _Source:
    """Thirty black records."""

    kind, public = "test", False

    def __init__(self, facts: PublicFacts) -> None:
        self.shape, self.class_names = facts.shape, facts.class_names

    def __len__(self) -> int:
        return 30

    def read(self, indices: Any) -> tuple[torch.Tensor, torch.Tensor]:  # noqa: ANN401
        n = len(np.asarray(indices))
        return torch.zeros(n, *self.shape, dtype=torch.uint8), torch.zeros(n, dtype=torch.int64)

    def raw_records(self) -> Any:  # noqa: ANN401
        channels, height, width = self.shape
        rng = np.random.default_rng(0)
        for _ in range(30):
            yield rng.integers(0, 256, (height, width, channels), dtype=np.uint8), 0
