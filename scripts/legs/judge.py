"""Evaluates samples of a finished run."""

from __future__ import annotations

import copy
import json
import time
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator

from dpgen import Budget, Images
from dpgen.configurations.pge import sampler_for
from dpgen.data.sources import read_images
from dpgen.evaluation.extraction import Statistics, extract, reference_statistics, statistics
from dpgen.evaluation.feature_distances import frechet_distance
from dpgen.evaluation.features import FeatureNetwork, classifier_features
from dpgen.evaluation.utility import UtilityProtocol, utility
from dpgen.generator.interface import PrivateGenerator
from dpgen.generator.sampler_settings import SamplerSettings
from dpgen.images.grid import save_grid
from dpgen.images.images import to_uint8
from dpgen.methods import find
from dpgen.methods.dpdm import DPDMSettings
from dpgen.networks.denoiser import Denoiser
from dpgen.storage.durable import replace_durably
from legs.recipes import CLASSES
from legs.row import Leg, Row
from samplers import Sampler


def views(method: str, shape: tuple[int, int, int]) -> list[tuple[str, str, Sampler | None]]:
    """Returns (method, network, sampler) of the sets with which a run is evaluated; a sampler of
    None is the method's own.
    """
    if method != "dp-sad":
        return [(method, "model", None)]
    dpdm = find("dpdm")(budget=Budget(1.0, 1e-5), settings=DPDMSettings())
    return [
        ("dpdm", "teacher", dpdm.default_sampler()),
        ("dp-sad", "model", None),
        ("pge", "teacher", sampler_for(SamplerSettings(), "dpsgd", shape).build()),
    ]


class Judge(NamedTuple):
    """The reference with which sets of a data set are compared.

    train, test: real images.
    network: a classifier of ``train``, for its features.
    real: statistics of the features of ``test``.
    """

    train: Images
    test: Images
    network: FeatureNetwork
    real: Statistics
    accelerator: Accelerator
    seed: int

    @classmethod
    def of(cls, row: Row, leg: Leg) -> Judge:
        place, cache = leg.data / row.dataset, leg.out / "features" / row.dataset
        n_classes = CLASSES[row.dataset]
        train, test = (
            read_images(place, split=split, classes=n_classes) for split in ("train", "test")
        )
        accelerator = Accelerator(cpu=leg.device == "cpu")
        network = classifier_features(train, n_classes, cache=cache, accelerator=accelerator)
        pixels = to_uint8(test.pixels)
        real = reference_statistics(network, pixels, accelerator=accelerator, cache=cache)
        return cls(train, test, network, real, accelerator, leg.seed)

    def scores(self, images: Images) -> dict[str, float]:
        """Computes the accuracy on the real test split, in percent, of the usual classifier of
        ``images``, and the Frechet distance to that split.
        """
        found = extract(self.network, to_uint8(images.pixels), accelerator=self.accelerator)
        n_classes = int(self.test.labels.max()) + 1
        one = utility(
            images, self.test, n_classes, seed=self.seed, device=self.accelerator.device
        )
        return {
            "n": len(images.labels),
            "accuracy": 100 * one.accuracy,
            "frechet": frechet_distance(statistics(found.features), self.real),
        }


def judged(row: Row, leg: Leg, generator: PrivateGenerator, legs: list[dict[str, Any]]) -> None:
    """Draws the sets of a finished run and writes their scores; none is drawn twice."""
    path, real = leg.out / row.name / "rows.json", leg.out / f"real-{row.dataset}.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    assert generator.facts is not None and generator.folder is not None
    config = json.loads((generator.folder / "config.json").read_text())
    guarantee, judge = generator.privacy["guarantee"], Judge.of(row, leg)
    for method, network, sampler in views(row.method, generator.facts.shape):
        if any(held["method"] == method for held in rows):
            continue
        sampler, start = sampler or generator.default_sampler(network), time.time()
        images = drawn(generator, network, sampler, leg, judge.accelerator.device)
        took = time.time() - start
        save_grid(images, leg.out / f"{row.name}-{method}.png", n_classes=generator.facts.n_classes)
        sets = {"all": images}
        if (labeller := generator.labeller) is not None:
            # Keep the images that the private labeller assigns to their class: post-processing.
            agreed = labeller.cpu().label(images.pixels) == images.labels
            sets["agreed"] = Images(images.pixels[agreed], images.labels[agreed])
        rows.append({
            "dataset": row.dataset, "method": method, "wanted": row.epsilon,
            **{name: guarantee[name] for name in ("epsilon", "delta", "adjacency")},
            "run": f"{row.method}, {network}", "sampler": repr(sampler),
            "sets": {name: judge.scores(chosen) for name, chosen in sets.items()},
            "test_looks": len(sets), "seed": leg.seed,
            "n_parameters": sum(p.numel() for p in generator.networks[network].parameters()),
            "seconds": {"sample": took, "judge": time.time() - start - took}, "legs": legs,
            "settings": config["settings"], "protocol": asdict(UtilityProtocol()),
        })  # fmt: skip
        replace_durably(path, json.dumps(rows, indent=1).encode())
        print(f"{row.name}: {method} {rows[-1]['sets']} {rows[-1]['seconds']}", flush=True)
    if not real.exists():
        replace_durably(real, json.dumps(judge.scores(judge.train)).encode())


@torch.no_grad()
def drawn(
    generator: PrivateGenerator, network: str, sampler: Sampler, leg: Leg, device: torch.device
) -> Images:
    """Draws the set of a run, equally many images of each class; on a GPU in bf16 and 2,048 at a
    time, which a network of this size needs to keep the GPU busy.
    """
    chosen = generator.networks[network]
    assert isinstance(chosen, Denoiser) and generator.facts is not None
    chosen = copy.deepcopy(chosen).to(device)
    if device.type == "cuda":
        chosen.unet.to(torch.bfloat16)
    seed = torch.Generator().manual_seed(leg.seed)
    own = torch.Generator(device=device).manual_seed(leg.seed)
    labels, parts = torch.arange(leg.samples) % generator.facts.n_classes, []
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False):
        for some in labels.split(2048):
            noise = torch.randn(len(some), *generator.facts.shape, generator=seed).to(device)
            x = sampler(chosen.score_fn(some.to(device)), noise, generator=own)
            parts.append(x.float().clamp(-1, 1).cpu())
    return Images(torch.cat(parts), labels)
