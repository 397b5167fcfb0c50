"""A measured run: trained under a ledger of its own, its samples judged on real images."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch

from dpgen import Images, open_images
from dpgen.data.private import PrivateDataset
from dpgen.data.sources import open_source
from dpgen.evaluation.features import FeatureNetwork
from dpgen.evaluation.fidelity import fidelity
from dpgen.evaluation.utility import UtilityProtocol, utility
from dpgen.generator.interface import PrivateGenerator
from dpgen.runs.context import peak_memory


def measure(
    generator: PrivateGenerator, records: str | Images, test: Images, *, n_samples: int,
    seed: int, sampling_seed: int | None = None, classes: int | None = None,
    public: Images | None = None, features: FeatureNetwork | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Trains ``generator``, draws samples, trains the usual classifier of `dpgen evaluate` on them.

    Ledger and run lie in a temporary home, which is deleted: this measures, and publishes no run.

    Args:
        generator: the method to measure.
        records: the records that it learns from.
        test: real images on which the classifier is tested.
        n_samples: number of images to draw.
        seed: seed of training, sampling and classifier.
        sampling_seed: seed of sampling, if different.
        classes: number of classes, where the records do not state it.
        public: public images from which the run starts.
        features: the network whose Frechet distance to ``test`` is measured, too; None for none.
    """
    with tempfile.TemporaryDirectory() as home:
        os.environ["DPGEN_HOME"] = home
        start = time.perf_counter()
        data = open_images(records, classes=classes)
        generator.fit(data, out=Path(home) / "run", seed=seed, show=True, public=public)
        trained = time.perf_counter()
        drawing = torch.Generator().manual_seed(seed if sampling_seed is None else sampling_seed)
        images = generator.sample(n_samples, generator=drawing)
        drawn = time.perf_counter()
        guarantee = generator.privacy["guarantee"]
    assert generator.facts is not None
    protocol = UtilityProtocol()
    found = utility(images, test, generator.facts.n_classes, seed=seed, protocol=protocol)
    distance = {}
    if features is not None:
        distance = {"frechet": fidelity(images, test, features).values["fid"]}
    return {
        **{name: guarantee[name] for name in ("epsilon", "delta", "adjacency")},
        "seed": seed,
        "accuracy": 100 * found.accuracy,
        **distance,
        "minutes": {"train": (trained - start) / 60, "sample": (drawn - trained) / 60},
        "gib": peak_memory() / 2**30,
        "threads": torch.get_num_threads(),
        "n_samples": n_samples,
        "protocol": asdict(protocol),
    }


Generator = TypeVar("Generator", bound=PrivateGenerator)


def fitted_apart(
    generator: Generator, records: Images, class_names: tuple[str, ...], place: Path, *, seed: int
) -> Generator:
    """Trains a generator under fresh keys and a ledger of its own, all in a folder."""
    os.environ["DPGEN_HOME"] = str(place / "home")
    data = PrivateDataset(open_source(records, classes=class_names))
    return generator.fit(data, out=place / "run", seed=seed)


class Rows:
    """Rows in a JSON file, written after each; a row that is there is not measured again.

    Args:
        path: the file.
        page_fn: makes a page in Markdown of the rows, which is written beside the file after each;
            None: none is.
    """

    def __init__(
        self, path: Path, page_fn: Callable[[list[dict[str, Any]]], str] | None = None
    ) -> None:
        self.path, self._page_fn = path, page_fn
        self.held: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []

    def hold(self, **cell: object) -> bool:
        """Returns whether there is a row with these fields."""
        return any(cell.items() <= row.items() for row in self.held)

    def add(self, row: dict[str, Any]) -> None:
        self.held.append(row)
        self.path.write_text(json.dumps(self.held, indent=1) + "\n")
        if self._page_fn is not None:
            self.path.with_suffix(".md").write_text(self._page_fn(self.held))


def markdown(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Writes a table in Markdown."""
    head, *body = (f"| {' | '.join(map(str, cells))} |" for cells in (columns, *rows))
    return "\n".join([head, "|---" * len(columns) + "|", *body, ""])
