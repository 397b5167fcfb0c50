"""Evaluates synthetic sets: fidelity, accuracies of classifiers, and metrics of the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from accelerate import Accelerator
from torch import nn

from dpgen.evaluation.comparison import ComparedImages
from dpgen.evaluation.features import ClassifierFeatures, FeatureNetwork
from dpgen.evaluation.fidelity import Fidelity, FidelityProtocol, fidelity
from dpgen.evaluation.metrics import ACCURACY, METRICS, Estimate, estimate
from dpgen.evaluation.utility import Utility, UtilityProtocol, utility
from dpgen.images.images import Images, to_float, to_uint8


@dataclass(frozen=True)
class Protocol:
    """How sets are evaluated.

    Args:
        fidelity: of FID and its kin.
        networks: classifiers whose accuracy is measured, keys of `utility.NETWORKS`.
        seeds: one classifier of each kind for each of them.
        n_records: real images of the training split, which choose the recipe of the classifiers, as
            `UtilityProtocol.of` says; None: many.
    """

    fidelity: FidelityProtocol = FidelityProtocol()  # noqa: RUF009 - frozen
    networks: tuple[str, ...] = ("cnn",)
    seeds: tuple[int, ...] = (0,)
    n_records: int | None = None


@dataclass(frozen=True)
class Evaluation:
    """What one synthetic set is worth.

    Args:
        n_images: how many it has.
        utilities: by network, a result a seed.
        fidelity: None if no network was given to look through.
        values: metrics of pixels and labels, by name.
    """

    n_images: int
    utilities: Mapping[str, tuple[Utility, ...]]
    fidelity: Fidelity | None
    values: Mapping[str, float]

    @property
    def metrics(self) -> dict[str, Estimate]:
        """Returns all numbers by name; for accuracies the mean over seeds with its standard error.
        """
        found = {
            f"{ACCURACY}{k}": estimate(u.accuracy for u in v) for k, v in self.utilities.items()
        }
        if self.fidelity is not None:
            found |= {k: estimate([v]) for k, v in self.fidelity.metrics().items()}
        found |= {k: estimate([v]) for k, v in self.values.items()}
        return {k: v for k, v in found.items() if v is not None}


def evaluate(
    sets: Mapping[str, Images],
    reference: Images,
    protocol: Protocol,
    *,
    n_classes: int,
    test: Images | None = None,
    network: FeatureNetwork | None = None,
    private: bool = True,
    accelerator: Accelerator | None = None,
    cache: Path | None = None,
    show: bool = False,
) -> dict[str, Evaluation]:
    """Compares synthetic sets with real images, by every row of `METRICS` and by classifiers.

    Guarantees: deterministic given the protocol, on the same CPU; the reference has no influence on
    a classifier. Under a launcher several processes share the features; classifiers are trained by
    the first one alone, and only its result is whole.

    Args:
        sets: synthetic images by name.
        reference: real images of the same shape.
        protocol: what the numbers depend on besides the images and the network.
        n_classes: of all of them.
        test: real images that the classifiers are tested on; None: the reference.
        network: what fidelity looks through; None: no fidelity.
        private: whether the reference, or what the network learned from, is private.
        accelerator: of the processes that share the work; None: this process alone, on the CPU.
        cache: folder for features of the reference; they are as private as the reference.
        show: progress bars.
    """
    close: dict[str, Fidelity | None] = dict.fromkeys(sets)
    values: dict[str, dict[str, float]] = {}
    for name, images in sets.items():
        if network is not None:
            close[name] = fidelity(
                images, reference, network, protocol.fidelity, private=private,
                accelerator=accelerator, cache=cache, show=show,
            )  # fmt: skip
        values[name] = _of_images(images, reference, n_classes)
    first = accelerator is None or accelerator.is_main_process
    networks = protocol.networks if first else ()
    recipes = {kind: UtilityProtocol.of(kind, protocol.n_records) for kind in networks}
    trained: dict[str, dict[str, tuple[Utility, ...]]] = {name: {} for name in sets}

    def of_features(name: str, kind: str, seed: int) -> nn.Module | None:
        """Returns the classifier of the features where it is the one that is to be trained."""
        if not isinstance(network, ClassifierFeatures):
            return None
        return network.trained(sets[name], n_classes, seed=seed, protocol=recipes[kind])

    ready = {job: of_features(*job) for job in product(sets, networks, protocol.seeds)}
    total, n_trained = sum(module is None for module in ready.values()), 0
    for (name, kind, seed), module in ready.items():
        n_trained += module is None
        one = utility(
            sets[name], reference if test is None else test, n_classes, seed=seed,
            protocol=recipes[kind], trained=module,
            device="cpu" if accelerator is None else accelerator.device,
            show=show, label=f"classifier {n_trained} of {total}, {kind}",
        )  # fmt: skip
        trained[name][kind] = (*trained[name].get(kind, ()), one)
    return {
        name: Evaluation(len(images.labels), trained[name], close[name], values[name])
        for name, images in sets.items()
    }


def _of_images(synthetic: Images, reference: Images, n_classes: int) -> dict[str, float]:
    rows = {name: row.of_images for name, row in METRICS.items() if row.of_images is not None}
    if not rows:
        return {}
    ours, real = (
        Images(to_float(to_uint8(x.pixels)), x.labels) for x in (synthetic, reference)
    )
    both = ComparedImages(ours, real, n_classes)
    return {name: measure(both).mean for name, measure in rows.items()}
