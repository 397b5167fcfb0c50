"""Samples of a finished run, and what they score."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Any

import torch
from accelerate import Accelerator

from dpgen import Budget, Images
from dpgen.data.images import to_uint8
from dpgen.data.sources import read_images
from dpgen.evaluation.extraction import extract, reference_statistics, statistics
from dpgen.evaluation.feature_distances import frechet_distance
from dpgen.evaluation.features import classifier_features
from dpgen.evaluation.grid import save_grid
from dpgen.evaluation.utility import UtilityProtocol, utility
from dpgen.generator import PrivateGenerator
from dpgen.methods import find
from dpgen.methods.dpdm import DPDMSettings
from dpgen.methods.pge import SamplerSettings
from dpgen.networks.denoiser import Denoiser
from dpgen.privacy.chain import replace_durably
from legs.row import Leg, Row
from samplers import Sampler


def views(method: str, shape: tuple[int, int, int]) -> list[tuple[str, str, Sampler | None]]:
    """(method, network, sampler) of the sets that a run is judged by; None: the method's own."""
    if method != "dp-sad":
        return [(method, "model", None)]
    dpdm = find("dpdm")(budget=Budget(1.0, 1e-5), settings=DPDMSettings())
    return [
        ("dpdm", "teacher", dpdm.default_sampler()),
        ("dp-sad", "model", None),
        ("pge", "teacher", SamplerSettings().resolved("dpsgd", shape).build()),
    ]


def judged(row: Row, leg: Leg, generator: PrivateGenerator, legs: list[dict[str, Any]]) -> None:
    """Draws the sets of a finished run and writes what they score; none is drawn twice."""
    path = leg.out / row.name / "rows.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    device = Accelerator(cpu=leg.device == "cpu").device
    assert generator.facts is not None and generator.folder is not None
    config = json.loads((generator.folder / "config.json").read_text())
    guarantee = generator.privacy["guarantee"]
    for method, network, sampler in views(row.method, generator.facts.shape):
        if any(held["method"] == method for held in rows):
            continue
        sampler = sampler or generator.default_sampler(network)
        start, seed = time.time(), torch.Generator().manual_seed(leg.seed)
        images = generator.sample(
            leg.samples, network=network, sampler=sampler, generator=seed, device=device
        )
        drawn = time.time()
        save_grid(images, leg.out / f"{row.name}-{method}.png", n_classes=generator.facts.n_classes)
        sets = {"all": images}
        if (labeller := generator.labeller) is not None:
            # Those that the private labeller takes for their class: post-processing.
            agreed = labeller.cpu().label(images.pixels) == images.labels
            sets["agreed"] = Images(*(t[agreed] for t in images))
        drawn_network = generator.networks[network]
        assert isinstance(drawn_network, Denoiser)
        rows.append({
            "dataset": row.dataset, "method": method, "wanted": row.epsilon,
            **{name: guarantee[name] for name in ("epsilon", "delta", "adjacency")},
            "run": f"{row.method}, {network}", "sampler": repr(sampler),
            "sets": {name: scores(row, leg, chosen, device) for name, chosen in sets.items()},
            "test_looks": len(sets), "seed": leg.seed, "n_samples": leg.samples,
            "n_parameters": sum(p.numel() for p in drawn_network.parameters()),
            "seconds": {"sample": drawn - start, "judge": time.time() - drawn}, "legs": legs,
            "settings": config["settings"], "protocol": asdict(UtilityProtocol()),
        })  # fmt: skip
        replace_durably(path, json.dumps(rows, indent=1).encode())
        print(f"{row.name}: {method} {rows[-1]['sets']}", flush=True)


def scores(row: Row, leg: Leg, images: Images, device: torch.device) -> dict[str, float]:
    """Accuracy on the real test split, in percent, and Frechet distance to it."""
    accelerator, place = Accelerator(cpu=leg.device == "cpu"), leg.data / row.dataset
    test, cache = read_images(place, split="test"), leg.out / "features" / row.dataset
    n_classes = int(test.labels.max()) + 1
    network = classifier_features(
        read_images(place, split="train"), n_classes, cache=cache, accelerator=accelerator
    )
    real = reference_statistics(
        network, to_uint8(test.pixels), accelerator=accelerator, cache=cache
    )
    found = extract(network, to_uint8(images.pixels), accelerator=accelerator).features
    one = utility(images, test, n_classes, seed=leg.seed, device=device)
    return {
        "accuracy": 100 * one.accuracy,
        "frechet": frechet_distance(statistics(found), real),
        "n": len(images.labels),
    }
