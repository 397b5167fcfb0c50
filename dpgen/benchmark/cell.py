"""What a cell of a benchmark does: train, sample, judge."""

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
from dpgen.evaluation.feature_networks import feature_network
from dpgen.evaluation.fidelity import Fidelity, FidelityProtocol, fidelity
from dpgen.evaluation.utility import UtilityProtocol, utility
from dpgen.generator.interface import PrivateGenerator
from dpgen.images.grid import save_grid
from dpgen.images.images import Images, PublicFacts
from dpgen.methods import find
from dpgen.methods.loading import load
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.verification.verify import verify
from dpgen.runs.context import peak_memory
from dpgen.settings import from_dict

N_COLUMNS = 5  # images of a class in a cell's picture


def opened(settings: BenchmarkSettings) -> PrivateDataset:
    """The records that the cells learn from."""
    return open_images(
        settings.data,
        size=settings.size,
        channels=settings.channels,
        classes=settings.classes,
        adjacency=settings.adjacency,  # type: ignore[arg-type]
        public=settings.public_data,
        overlap=settings.overlap,  # type: ignore[arg-type]
    )


def untrained(
    settings: BenchmarkSettings, entry: Entry, epsilon: float, facts: PublicFacts
) -> PrivateGenerator:
    """A method with its settings and a budget; refuses what it would only refuse later."""
    budget = Budget.for_records(epsilon, settings.delta, facts.n_records)
    kind = find(entry.method)
    generator: PrivateGenerator = kind(
        budget=budget, settings=from_dict(kind.Settings, entry.settings, f"{entry.label}.")
    )
    generator.check_allowed(False)
    generator.settings = generator.resolve(facts)
    generator.default_sampler()
    return generator


def do(settings: BenchmarkSettings, cell: Cell, folder: Path) -> dict[str, Any]:
    """Trains a cell, or goes on where it was stopped; draws its samples and judges them."""
    place, entry = folder / "cells" / cell.name, settings.entry(cell.label)
    place.mkdir(parents=True, exist_ok=True)
    data, start = opened(settings), time.perf_counter()
    generator = untrained(settings, entry, cell.epsilon, data.facts)
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
    closeness = faithful(settings, folder, images, data)
    metrics = closeness.metrics() | accuracies(settings, images, n_classes, cell.seed)
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
        "metrics": metrics,
        "fidelity": closeness.to_dict(),
        "seconds": {
            "train": 0.0 if entry.teacher_of else trained - start,
            "sample": drawn - trained,
            "evaluate": time.perf_counter() - drawn,
        },
        "peak_mib": peak_memory() / 2**20,
        "grid": str((place / "grid.png").relative_to(folder)),
    }


def faithful(
    settings: BenchmarkSettings, folder: Path, images: Images, data: PrivateDataset
) -> Fidelity:
    """FID and its kin of a set of images against the reference split."""
    accelerator, n_classes = Accelerator(), data.facts.n_classes
    weights = None if settings.inception_weights is None else Path(settings.inception_weights)
    network = feature_network(
        settings.features, lambda: real(settings, "train"), n_classes,
        weights=weights, cache=folder / "features", accelerator=accelerator,
    )  # fmt: skip
    return fidelity(
        images,
        real(settings, settings.reference),  # type: ignore[arg-type]
        network,
        FidelityProtocol(reference_split=settings.reference),  # type: ignore[arg-type]
        private=not data.public,
        accelerator=accelerator,
        cache=folder / "features",
    )


def accuracies(
    settings: BenchmarkSettings, images: Images, n_classes: int, seed: int
) -> dict[str, float]:
    """Of classifiers trained on ``images``, on the real test split."""
    test, found = real(settings, "test"), {}
    for network in settings.networks:
        protocol = UtilityProtocol.of(network)
        one = utility(
            images, test, n_classes, seed=seed, protocol=protocol, device=Accelerator().device
        )
        found[f"accuracy_{network}"] = one.accuracy
    return found


def ceiling(settings: BenchmarkSettings, folder: Path, data: PrivateDataset) -> dict[str, float]:
    """The same metrics of real images: accuracy of the training split, fidelity of the split that
    is not the reference. No generator does better, but for luck; privacy it has none.
    """
    other: Split = "test" if settings.reference == "train" else "train"
    closeness = faithful(settings, folder, real(settings, other), data)
    train = real(settings, "train")
    return closeness.metrics() | accuracies(settings, train, data.facts.n_classes, seed=0)


def real(settings: BenchmarkSettings, split: Split) -> Images:
    """Real images, read without any privacy: what comes of them is covered by no epsilon."""
    return read_images(
        settings.data, split=split, size=settings.size, channels=settings.channels,
        classes=settings.classes,
    )  # fmt: skip
