"""Scores of classifiers that runs have released, on real images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dpgen.evaluation.utility import confused, logits_of, recalls
from dpgen.images.images import Images

N_BINS = 15  # of confidence, of equal width


class ReleasedClassifier(NamedTuple):
    """A classifier as a run releases it.

    Args:
        network: gives logits (B, K) of images (B, C, H, W) in [-1, 1].
        shape: (C, H, W) of its images.
        class_names: in the order of its logits.
        teacher: the released classifier that it learned from, likewise; None where it learned from
            the records.
    """

    network: nn.Module
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    teacher: nn.Module | None = None


@dataclass(frozen=True)
class ClassifierScores:
    """Of one classifier, on all images of the reference.

    Args:
        accuracy: share of the images that it takes for what they are.
        balanced: mean of that share over the classes that the reference has.
        per_class: that share of each class; None for a class without images.
        calibration_error: expected calibration error, in [0, 1]: see `calibration_error`.
        agreement: share of the images that it takes for what its teacher takes them for; None
            without a teacher.
    """

    accuracy: float
    balanced: float
    per_class: tuple[float | None, ...]
    calibration_error: float
    agreement: float | None = None

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
    logits = logits_of(classifier.network, reference)
    taken = logits.argmax(1)
    table = confused(taken, reference, len(class_names))
    shares = recalls(table)
    known = [share for share in shares if share is not None]
    agreement = None
    if classifier.teacher is not None:
        told = logits_of(classifier.teacher, reference).argmax(1)
        agreement = float((taken == told).double().mean())
    return ClassifierScores(
        int(table.trace()) / int(table.sum()), sum(known) / len(known), shares,
        calibration_error(logits, reference.labels), agreement,
    )  # fmt: skip


def calibration_error(logits: Tensor, labels: Tensor) -> float:
    """Computes the expected calibration error: the mean over images of how far, in their bin of
    confidence, the mean confidence is from the share of images that were taken for what they are.

    >>> calibration_error(torch.tensor([[9.0, -9.0]] * 4), torch.tensor([0, 0, 0, 1]))
    0.25

    Args:
        logits: (N, K).
        labels: (N,).

    Reference: Guo, Pleiss, Sun, Weinberger (2017), "On Calibration of Modern Neural Networks",
    arXiv 1706.04599; 15 bins of equal width.
    """
    confidence, taken = logits.double().softmax(1).max(1)
    right = (taken == labels).double()
    bins = (confidence * N_BINS).long().clamp_max(N_BINS - 1)
    gaps = torch.zeros(N_BINS, dtype=torch.float64).index_add(0, bins, right - confidence)
    return round(float(gaps.abs().sum() / len(labels)), 6)
