"""A measured run: trained under a ledger of its own, its samples judged on real images."""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from dpgen import Images, open_images
from dpgen.evaluation.utility import UtilityProtocol, utility
from dpgen.generator.interface import PrivateGenerator
from dpgen.runs.context import peak_memory


def measure(
    generator: PrivateGenerator, records: str | Images, test: Images, *, n_samples: int,
    seed: int, sampling_seed: int | None = None, classes: int | None = None,
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
    """
    with tempfile.TemporaryDirectory() as home:
        os.environ["DPGEN_HOME"] = home
        start = time.perf_counter()
        data = open_images(records, classes=classes)
        generator.fit(data, out=Path(home) / "run", seed=seed, show=True)
        trained = time.perf_counter()
        drawing = torch.Generator().manual_seed(seed if sampling_seed is None else sampling_seed)
        images = generator.sample(n_samples, generator=drawing)
        drawn = time.perf_counter()
        guarantee = generator.privacy["guarantee"]
    assert generator.facts is not None
    protocol = UtilityProtocol()
    found = utility(images, test, generator.facts.n_classes, seed=seed, protocol=protocol)
    return {
        **{name: guarantee[name] for name in ("epsilon", "delta", "adjacency")},
        "seed": seed,
        "accuracy": 100 * found.accuracy,
        "minutes": {"train": (trained - start) / 60, "sample": (drawn - trained) / 60},
        "gib": peak_memory() / 2**30,
        "threads": torch.get_num_threads(),
        "n_samples": n_samples,
        "protocol": asdict(protocol),
    }


class Rows:
    """Rows in a JSON file, written after each; a row that is there is not measured again.

    Args:
        path: the file.
        key: the fields that identify a row.
    """

    def __init__(self, path: Path, *key: str) -> None:
        self.path, self.key = path, key
        self.held: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []

    def hold(self, *values: object) -> bool:
        return values in [tuple(row[name] for name in self.key) for row in self.held]

    def add(self, row: dict[str, Any]) -> None:
        self.held.append(row)
        self.path.write_text(json.dumps(self.held, indent=1) + "\n")
