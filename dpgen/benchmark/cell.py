"""Runs a cell of a benchmark: trains, samples and evaluates."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from dpgen.benchmark.schedule import BenchmarkSettings, Cell, Entry
from dpgen.data.formats.location import Split
from dpgen.data.opening import open_images
from dpgen.data.private import PrivateDataset
from dpgen.data.sources import read_images
from dpgen.evaluation.evaluation import Evaluation, Protocol, evaluate
from dpgen.evaluation.feature_networks import feature_network
from dpgen.evaluation.fidelity_protocol import FidelityProtocol
from dpgen.generator.interface import PrivateGenerator
from dpgen.images.grid import save_grid
from dpgen.images.images import Images, PublicFacts
from dpgen.methods import find
from dpgen.methods.loading import load
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.verification.verify import verify
from dpgen.runs.context import peak_memory
from dpgen.settings import from_dict

N_COLUMNS = 5  # images per class in a cell's picture


def open_records(settings: BenchmarkSettings) -> PrivateDataset:
    """Opens the records that the cells learn from."""
    return open_images(
        settings.data,
        size=settings.size,
        channels=settings.channels,
        classes=settings.classes,
        adjacency=settings.adjacency,  # type: ignore[arg-type]
        public=settings.public_data,
        overlap=settings.overlap,  # type: ignore[arg-type]
    )


def configure(
    settings: BenchmarkSettings, entry: Entry, epsilon: float, facts: PublicFacts
) -> PrivateGenerator:
    """Makes a method with its settings and a budget, and checks everything that `fit` would refuse.
    """
    budget = Budget.for_records(epsilon, settings.delta, facts.n_records)
    kind = find(entry.method)
    generator: PrivateGenerator = kind(
        budget=budget, settings=from_dict(kind.Settings, entry.settings, f"{entry.label}.")
    )
    generator.check_allowed(False)
    generator.settings = generator.resolve(facts)
    generator.default_sampler()
    return generator


def run_cell(settings: BenchmarkSettings, cell: Cell, folder: Path) -> dict[str, Any]:
    """Trains a cell, or resumes it where it was stopped; then draws samples and evaluates them."""
    place, entry = folder / "cells" / cell.name, settings.entry(cell.label)
    place.mkdir(parents=True, exist_ok=True)
    data, start = open_records(settings), time.perf_counter()
    generator = configure(settings, entry, cell.epsilon, data.facts)
    network, sampler = "model", generator.default_sampler()
    if entry.teacher_of is None:
        generator.fit(data, out=place / "run", seed=cell.seed)
    else:
        other = folder / "cells" / cell._replace(label=entry.teacher_of).name / "run"
        generator, network = load(other), "teacher"
    trained = time.perf_counter()
    images = generator.sample(
        settings.n_samples,
        network=network,
        sampler=sampler,
        generator=torch.Generator().manual_seed(cell.seed),
        device=Accelerator().device,
    )
    drawn = time.perf_counter()
    n_classes = data.facts.n_classes
    save_grid(images, place / "grid.png", n_classes=n_classes, n_columns=N_COLUMNS)
    found = measure(settings, folder, images, data, seed=cell.seed, networks=settings.networks)
    assert found.fidelity is not None
    assert generator.folder is not None
    checks = verify(generator.folder)
    statement = generator.privacy
    return {
        "privacy": {
            **{k: statement["guarantee"][k] for k in ("epsilon", "delta", "adjacency")},
            "statement": statement["statement"],
            "declared": statement["declared"],
            "verified": not any(check.failed for check in checks),
        },
        "metrics": {name: one.mean for name, one in found.metrics.items()},
        "fidelity": found.fidelity.to_dict(),
        "seconds": {
            "train": 0.0 if entry.teacher_of else trained - start,
            "sample": drawn - trained,
            "evaluate": time.perf_counter() - drawn,
        },
        "peak_mib": peak_memory() / 2**20,
        "grid": str((place / "grid.png").relative_to(folder)),
    }


def measure(
    settings: BenchmarkSettings, folder: Path, images: Images, data: PrivateDataset,
    *, seed: int, networks: tuple[str, ...], show: bool = False,
) -> Evaluation:  # fmt: skip
    """Compares a set of images with the reference split, and tests classifiers that learned from it
    on the real test split.
    """
    accelerator, n_classes = Accelerator(), data.facts.n_classes
    weights = None if settings.inception_weights is None else Path(settings.inception_weights)
    network = feature_network(
        settings.features, lambda: read_real(settings, "train"), n_classes,
        weights=weights, cache=folder / "features", accelerator=accelerator, show=show,
    )  # fmt: skip
    closeness = FidelityProtocol(reference_split=settings.reference)  # type: ignore[arg-type]
    return evaluate(
        {"": images},
        read_real(settings, settings.reference),  # type: ignore[arg-type]
        Protocol(closeness, networks, (seed,), data.facts.n_records),
        n_classes=n_classes,
        test=read_real(settings, "test"),
        network=network,
        private=not data.public,
        accelerator=accelerator,
        cache=folder / "features",
        show=show,
    )[""]


def real_data_ceiling(
    settings: BenchmarkSettings, folder: Path, data: PrivateDataset, *, show: bool = False
) -> dict[str, float]:
    """Measures the same metrics for real images: accuracy for the training split, everything else
    for the split that is not the reference. They are a bound, up to chance, for every generator;
    real images have no privacy.
    """
    other: Split = "test" if settings.reference == "train" else "train"
    train = evaluate(
        {"": read_real(settings, "train")},
        read_real(settings, "test"),
        Protocol(networks=settings.networks, n_records=data.facts.n_records),
        n_classes=data.facts.n_classes,
        accelerator=Accelerator(),
        show=show,
    )[""]
    others = read_real(settings, other)
    close = measure(settings, folder, others, data, seed=0, networks=(), show=show)
    return {name: e.mean for name, e in (train.metrics | close.metrics).items()}


def read_real(settings: BenchmarkSettings, split: Split) -> Images:
    """Reads real images, without any privacy: no epsilon covers results that depend on them."""
    return read_images(
        settings.data, split=split, size=settings.size, channels=settings.channels,
        classes=settings.classes,
    )  # fmt: skip
