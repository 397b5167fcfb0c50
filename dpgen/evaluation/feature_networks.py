"""The feature networks by their names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from accelerate import Accelerator

from dpgen.evaluation.features import FeatureNetwork, classifier_features
from dpgen.evaluation.inception import inception
from dpgen.images.images import Images


def feature_network(
    name: str,
    training: Callable[[], Images],
    n_classes: int,
    *,
    weights: Path | None = None,
    cache: Path | None = None,
    accelerator: Accelerator | None = None,
) -> FeatureNetwork:
    """Returns the network whose features fidelity compares.

    Args:
        name: "inception", or "classifier": a small one of the real training images.
        training: reads those; not called for Inception.
        n_classes: theirs.
        weights: file of Inception's weights.
        cache: folder that keeps a trained classifier.
        accelerator: where a classifier is trained, and the processes that need it.
    """
    if name == "inception":
        return inception(weights)
    if name == "classifier":
        return classifier_features(training(), n_classes, cache=cache, accelerator=accelerator)
    raise ValueError(f"features must be classifier or inception, got {name!r}")
