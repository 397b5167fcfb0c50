"""Fidelity: how close synthetic images come to real ones in the features of a network.

All metrics read the same uint8 images and one pass of one network; `METRICS` lists them and
`feature_distances` defines them. FID of finite sets is above that of the distributions behind them,
by about the square of the number of features over the number of images: compare at equal numbers
only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from dpgen.evaluation.comparison import ComparedFeatures
from dpgen.evaluation.extraction import extract, reference_statistics, refuse_unlike_processes
from dpgen.evaluation.feature_cache import sha256_of
from dpgen.evaluation.features import FeatureNetwork
from dpgen.evaluation.fidelity_protocol import FidelityProtocol
from dpgen.evaluation.inception import Inception
from dpgen.evaluation.metrics import METRICS
from dpgen.images.images import Images, to_uint8
from dpgen.progress import progress_bar

__all__ = ["Fidelity", "FidelityProtocol", "fidelity"]


@dataclass(frozen=True)
class Fidelity:
    """Fidelity with everything that it depends on.

    ``values`` are by row of `METRICS`, ``spreads`` the standard deviations of those that are means
    over subsets or parts. ``private`` says that the numbers were computed from private records or
    from what a generator learned from: they are no release under differential privacy.
    """

    values: Mapping[str, float]
    spreads: Mapping[str, float]
    n_features: int
    network: str
    network_sha256: str
    network_recipe: Mapping[str, Any]
    protocol: FidelityProtocol
    private: bool

    def metrics(self) -> dict[str, float]:
        """Returns the numbers by name; the names of any network but Inception begin with the
        network's.
        """
        ours = self.network == Inception.name
        names = {
            name: (METRICS[name].inception_name or name) if ours else f"{self.network}_{name}"
            for name in self.values
        }
        return {names[name]: value for name, value in self.values.items()}

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON values: the metrics, their spreads, the network, the protocol, whether
        private.
        """
        return {
            "metrics": self.metrics(),
            **{f"{name}_std": spread for name, spread in self.spreads.items()},
            "network": {
                "name": self.network,
                "sha256": self.network_sha256,
                "n_features": self.n_features,
                "recipe": dict(self.network_recipe),
            },
            "protocol": asdict(self.protocol),
            "private": self.private,
        }


def fidelity(
    synthetic: Images,
    reference: Images,
    network: FeatureNetwork,
    protocol: FidelityProtocol = FidelityProtocol(),  # noqa: B008 - frozen
    *,
    private: bool = True,
    accelerator: Accelerator | None = None,
    cache: Path | None = None,
    show: bool = False,
) -> Fidelity:
    """Measures how close ``synthetic`` comes to ``reference`` in the features of ``network``.

    Guarantees: the same numbers for any number of processes, with the cache and without it, on
    processors of one kind; labels are not looked at; leaves torch's global random state as it was.

    Args:
        synthetic: what a generator drew.
        reference: real images of the same shape.
        network: the feature network.
        protocol: everything else that the numbers depend on.
        private: whether the reference, or what the network learned from, is private. A reference of
            training records makes the result private whatever is said here.
        accelerator: of the processes that share the work; None: this process alone, on the CPU.
        cache: folder for features of the reference; they are as private as the reference.
        show: progress bars.
    """
    _check(synthetic, reference, network)
    full = protocol.resolved(len(synthetic.pixels), len(reference.pixels))
    # Apart: where a generator repeats its records in order, one draw would pick each with its copy.
    seed, seed_real = full.seed, full.seed + 1
    ours = to_uint8(_chosen(synthetic.pixels, full.n_synthetic, seed))
    real = to_uint8(_chosen(reference.pixels, full.n_reference, seed_real))
    if accelerator is not None and accelerator.num_processes > 1:
        refuse_unlike_processes(accelerator, network.sha256, sha256_of(ours), sha256_of(real))
    of_real = reference_statistics(network, real, accelerator=accelerator, cache=cache, show=show)
    label = "features, synthetic"
    found = extract(network, ours, accelerator=accelerator, label=label, show=show)
    features = found.features
    both = ComparedFeatures(
        features,
        found.logits,
        of_real,
        _chosen(features, full.n_neighbour_images, seed),
        _chosen(of_real.features, full.n_neighbour_images, seed_real),
        full,
    )
    has_logits = found.logits.shape[1] > 0
    rows = {
        name: row.of_features for name, row in METRICS.items()
        if row.of_features is not None and (has_logits or not row.of_logits)
    }  # fmt: skip
    measured = {}
    first = accelerator is None or accelerator.is_main_process
    with progress_bar("metrics", len(rows), show=show and first) as advance:
        for name, measure in rows.items():
            measured[name] = measure(both)
            advance()
    return Fidelity(
        values={name: value.mean for name, value in measured.items()},
        spreads={name: value.std for name, value in measured.items() if value.std is not None},
        n_features=features.shape[1],
        network=network.name,
        network_sha256=network.sha256,
        network_recipe=dict(network.recipe),
        protocol=full,
        private=private or full.reference_split != "test",
    )


def _chosen(values: Tensor, n: int | None, seed: int) -> Tensor:
    if n is None or n == len(values):
        return values
    generator = torch.Generator().manual_seed(seed)
    return values[torch.randperm(len(values), generator=generator)[:n].sort().values]


def _check(synthetic: Images, reference: Images, network: FeatureNetwork) -> None:
    for name, images in (("synthetic", synthetic), ("reference", reference)):
        if images.pixels.ndim != 4 or images.pixels.shape[1] not in (1, 3):
            raise ValueError(
                f"{name} must have pixels (N, 1 or 3, H, W), got {tuple(images.pixels.shape)}"
            )
    ours, real = tuple(synthetic.pixels.shape[1:]), tuple(reference.pixels.shape[1:])
    if ours != real:
        raise ValueError(
            f"synthetic images must have the shape of the reference, (C, H, W) = {real}, got "
            f"{ours}: resize or convert one of them first"
        )
    if not network.name.isidentifier():
        raise ValueError(f"network must have a name of letters, got {network.name!r}")
    if network.name == Inception.name and not isinstance(network, Inception):
        raise ValueError(
            "network must not be called 'inception' unless dpgen.evaluation.inception.inception "
            "made it: its numbers would pass for published ones"
        )
