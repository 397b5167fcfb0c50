"""Scores of classifiers that runs have released."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dpgen.evaluation.classifiers import (
    ReleasedClassifier,
    calibration_error,
    classifier_scores,
)
from dpgen.images.images import Images

NAMES = ("dark", "bright", "none such")


class Brightness(nn.Module):
    """Takes bright images for class 1 and others for class 0."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((1, 2, 3))
        return torch.stack([-mean, mean, torch.full_like(mean, -9)], 1)


def reference() -> Images:
    """Four dark images, of which one is called bright, and two bright ones."""
    pixels = torch.tensor([-1.0, -1, -1, -1, 1, 1])[:, None, None, None].expand(6, 1, 2, 2)
    return Images(pixels.contiguous(), torch.tensor([0, 0, 0, 1, 1, 1]))


def test_accuracy_and_its_mean_over_the_classes_that_there_are() -> None:
    found = classifier_scores(
        "run", ReleasedClassifier(Brightness(), (1, 2, 2), NAMES), reference(), NAMES
    )
    assert found.accuracy == pytest.approx(5 / 6)
    assert found.balanced == pytest.approx((1 + 2 / 3) / 2)
    assert found.per_class == (1.0, pytest.approx(2 / 3), None)
    assert found.to_dict()["per_class"][2] is None and found.agreement is None


class Dark(nn.Module):
    """Takes every image for class 0."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([1.0, 0.0, 0.0]).expand(len(x), 3)


def test_a_student_is_compared_with_its_teacher_on_every_image() -> None:
    student = ReleasedClassifier(Brightness(), (1, 2, 2), NAMES, Dark())
    assert classifier_scores("run", student, reference(), NAMES).agreement == pytest.approx(4 / 6)


def test_calibration_compares_confidence_with_accuracy_bin_by_bin() -> None:
    # Ten images at confidence 0.9, of which nine are right, and ten at 0.6, of which four are.
    sure, unsure = (torch.tensor([p, 1 - p]).log() for p in (0.9, 0.6))
    logits = torch.stack([sure] * 10 + [unsure] * 10)
    labels = torch.tensor([0] * 9 + [1] + [0] * 4 + [1] * 6)
    assert calibration_error(logits, labels) == pytest.approx((0.0 + 0.2) / 2, abs=1e-5)
    # Both in one bin would cancel what is too high in one by what is too low in the other.
    assert calibration_error(logits[10:], labels[10:]) == pytest.approx(0.2, abs=1e-5)


@pytest.mark.parametrize(
    ("shape", "names"), [((3, 2, 2), NAMES), ((1, 2, 2), ("bright", "dark", "none such"))]
)
def test_a_classifier_of_other_images_or_classes_is_refused(
    shape: tuple[int, int, int], names: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match="the classifier of run is of"):
        classifier_scores(
            "run", ReleasedClassifier(Brightness(), shape, names), reference(), NAMES
        )
