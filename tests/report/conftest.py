"""A benchmark as it comes out of a real run: four methods, four epsilons, three seeds, pictures."""

from __future__ import annotations

import copy
import io
import random
from typing import Any

import numpy as np
import pytest
from PIL import Image

LABELS = ("dp-sad", "dpdm", "pge dpsgd", "pge sketch")
EPSILONS = (0.2, 1.0, 5.0, 10.0)
NETWORKS = ("logistic", "mlp", "cnn")


def sample_results() -> dict[str, Any]:
    """All 48 cells done; deterministic."""
    coins = random.Random(0)
    cells = []
    for seed in range(3):
        for i, epsilon in enumerate(EPSILONS):
            for j, label in enumerate(LABELS):
                accuracy = 1 - 0.45 / (1 + 2 * i + j) + coins.gauss(0, 0.01)
                distance = 160 / (1 + 2.2 * i + j) * (1 + coins.gauss(0, 0.05))
                cells.append(sample_cell(label, epsilon, seed, accuracy, distance, coins))
    return {
        "schema": "dpgen-benchmark/1",
        "title": "Embedded digits, 8x8, quick setting",
        "created": "2031-05-04T12:00:00+00:00",
        "data": {
            "name": "digits",
            "n_records": 1437,
            "shape": [1, 8, 8],
            "class_names": [str(k) for k in range(10)],
            "reference": "train",
            "public": True,
        },
        "protocol": {
            "fidelity": {"features": "classifier", "n_images": 10000, "network_sha256": "ab" * 32},
            "utility": {"networks": list(NETWORKS), "n_steps": 1000, "learning_rate": 2e-3},
            "n_samples": 10000,
            "selection": "settings fixed on splits of the training records before any score here",
        },
        "machine": {"cpu": "x86_64", "threads": 1, "torch": "2.13.0", "dpgen": "0.1.0"},
        "epsilons": list(EPSILONS),
        "seeds": 3,
        "methods": [
            {
                "label": label,
                "method": label.split()[0],
                "mode": label.split()[-1] if " " in label else "sealed",
                "teacher_of": "dp-sad" if label == "dpdm" else None,
                "settings": {"teacher": {"n_steps": 400, "batch_size": 256}, "preset": "quick"},
            }
            for label in LABELS
        ],
        "cells": cells,
        "references": {
            "real": {"accuracy_cnn": 0.986, "accuracy_mlp": 0.97, "classifier_fid": 0.8}
        },
    }


def sample_cell(
    label: str, epsilon: float, seed: int, accuracy: float, distance: float, coins: random.Random
) -> dict[str, Any]:
    certified = round(0.9995 * epsilon, 6)
    return {
        "label": label,
        "epsilon": epsilon,
        "seed": seed,
        "status": "done",
        "error": None,
        "privacy": {
            "epsilon": certified,
            "delta": 1e-4,
            "adjacency": "add_remove",
            "statement": f"This model satisfies ({certified:g}, 0.0001)-differential privacy in "
            "the central model, with respect to adding or removing one record (image and label) "
            "of the training data.",
            "declared": "The shape of the images, the number of records (1437) and the list of "
            "classes (10) were declared public.",
            "verified": True,
        },
        "metrics": {
            "classifier_fid": distance,
            "classifier_kid": distance / 900,
            "classifier_score": 10 - distance / 20,
            "classifier_precision": 1 - distance / 250,
            "classifier_recall": accuracy * 0.9,
            "classifier_density": 1 - distance / 300,
            "classifier_coverage": accuracy * 0.95,
            **{f"accuracy_{n}": accuracy - 0.02 * k for k, n in enumerate(reversed(NETWORKS))},
        },
        "seconds": {
            "train": 0.0 if label == "dpdm" else 60 + coins.random(),
            "sample": 5.0,
            "evaluate": 12.5,
        },
        "peak_mib": 900.0 + seed,
        "grid": f"cells/{label.replace(' ', '-')}-eps{epsilon:g}-seed{seed}/grid.png",
        "shared": None,
    }


def sample_picture(name: str) -> bytes:
    """Five noisy images of each of ten classes, as `dpgen.images.grid` lays them out."""
    rng = np.random.default_rng(len(name))
    tiles = rng.integers(0, 255, (10, 5, 8, 8), dtype=np.uint8)
    tiles[:, :, 2:6, 2:6] = (25 * np.arange(10))[:, None, None, None]
    picture = np.full((10 * 66 + 2, 5 * 66 + 2), 255, dtype=np.uint8)
    for k in range(10):
        for i in range(5):
            tile = tiles[k, i].repeat(8, 0).repeat(8, 1)
            picture[2 + 66 * k : 66 + 66 * k, 2 + 66 * i : 66 + 66 * i] = tile
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def complete() -> dict[str, Any]:
    """The sample that no test may change."""
    return sample_results()


@pytest.fixture
def results(complete: dict[str, Any]) -> dict[str, Any]:
    """The sample, for a test to change."""
    return copy.deepcopy(complete)


@pytest.fixture(scope="session")
def png() -> bytes:
    return sample_picture("one")
