"""Scores of classifiers that runs have released, on real images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from torch import nn

from dpgen.evaluation.utility import confusion
from dpgen.images.images import Images


class ReleasedClassifier(NamedTuple):
    """A classifier as a run releases it.

    Args:
        network: gives logits (B, K) of images (B, C, H, W) in [-1, 1].
        shape: (C, H, W) of its images.
        class_names: in the order of its logits.
    """

    network: nn.Module
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class ClassifierScores:
    """Of one classifier, on all images of the reference.

    Args:
        accuracy: share of the images that it takes for what they are.
        balanced: mean of that share over the classes that the reference has.
        per_class: that share of each class; None for a class without images.
    """

    accuracy: float
    balanced: float
    per_class: tuple[float | None, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON values."""
        return asdict(self)


def classifier_scores(
    name: str, classifier: ReleasedClassifier, reference: Images, class_names: Sequence[str]
) -> ClassifierScores:
    """Measures a classifier. Raises ValueError where it is of other images or classes.

    Args:
        name: what an error calls it.
    """
    shape = tuple(reference.pixels.shape[1:])
    if (classifier.shape, classifier.class_names) != (shape, tuple(class_names)):
        raise ValueError(
            f"the classifier of {name} is of {classifier.shape} images in the classes "
            f"{', '.join(classifier.class_names)}, the reference of {shape} in "
            f"{', '.join(class_names)}: they must be the same (--size and --channels bring a "
            "reference to a shape)"
        )
    table = confusion(classifier.network, reference, len(class_names)).tolist()
    shares = tuple(row[k] / sum(row) if sum(row) else None for k, row in enumerate(table))
    known = [share for share in shares if share is not None]
    right = sum(row[k] for k, row in enumerate(table))
    return ClassifierScores(
        right / len(reference.labels), sum(known) / len(known), shares
    )
