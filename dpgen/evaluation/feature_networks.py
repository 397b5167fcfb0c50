"""The table of feature networks: what `--features` may name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator

from dpgen.evaluation.features import FeatureNetwork, classifier_features
from dpgen.evaluation.inception import inception
from dpgen.evaluation.own_features import own_features
from dpgen.images.images import Images


@dataclass(frozen=True)
class Needs:
    """What a feature network may be made from; the arguments are those of `feature_network`."""

    training: Callable[[], Images]
    n_classes: int
    weights: Path | None
    cache: Path | None
    accelerator: Accelerator | None
    show: bool


def _classifier(of: Needs) -> FeatureNetwork:
    return classifier_features(
        of.training(), of.n_classes, cache=of.cache, accelerator=of.accelerator, show=of.show
    )


def _inception(of: Needs) -> FeatureNetwork:
    return inception(of.weights, show=of.show)


FEATURE_NETWORKS: dict[str, Callable[[Needs], FeatureNetwork]] = {
    "classifier": _classifier,
    "inception": _inception,
}


def feature_network(
    name: str,
    training: Callable[[], Images],
    n_classes: int,
    *,
    weights: Path | None = None,
    cache: Path | None = None,
    accelerator: Accelerator | None = None,
    show: bool = False,
    value_range: tuple[float, float] | None = None,
    size: int | None = None,
) -> FeatureNetwork:
    """Returns the network whose features fidelity compares.

    Args:
        name: a key of `FEATURE_NETWORKS`, or the path of a network of the user's own: a
            TorchScript file, which must be trusted, or a folder.
        training: reads the real training images; only called where a network learns from them.
        n_classes: the number of their classes.
        weights: file of Inception's weights.
        cache: folder that keeps a trained classifier.
        accelerator: where a classifier is trained, and the processes that need it.
        show: progress bars.
        value_range, size: how a TorchScript file reads images, as `own_features` takes them.
    """
    if name not in FEATURE_NETWORKS:
        return own_features(Path(name), value_range=value_range, size=size)
    if value_range is not None or size is not None:
        raise ValueError(
            "--features-range and --features-size are for a TorchScript file, got --features "
            f"{name}"
        )
    return FEATURE_NETWORKS[name](Needs(training, n_classes, weights, cache, accelerator, show))
