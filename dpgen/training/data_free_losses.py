r"""The losses of a generator that is refined without data: a table by name.

Each is a function of one batch: images x = G(z, y), the classes y that were asked for, a released
teacher T and, for some, a student S or what the generator released at first made of the same
latents.

    class         CE(T(x), y)
    anchor        mean (x - G_0(z, y))^2
    moments       class means and standard deviations around them, of x and of T's features, squared
                  distance to those of G_0(z, y)
    adversarial   -min(KL(T(x) || S(x)), 4)
    balance       sum_k p_k log p_k,   p the mean of softmax T(x)
    activation    -mean |T's features|, before they are normalised
    vaccine       -KL(T(x) || T'(x)), mean over images for which T and T' find the same class
                  likeliest; T' the shuffled copies of T (`dpgen.training.backdoor`)

Sources: Chen et al. (2019), "Data-Free Learning of Student Networks", arXiv 1904.01186, for
`class`, `balance` and `activation`; Fang et al. (2019), "Data-Free Adversarial Distillation", arXiv
1912.11006, for `adversarial`. `moments` stands in place of the statistics of batch normalisation,
which no network here has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpgen.networks.labeller import Labeller
from dpgen.networks.student import Student
from dpgen.training.backdoor import Shuffled, divergences

MOST_DIVERGENCE = 4.0


@dataclass(frozen=True)
class Batch:
    """Everything that a loss may look at.

    Args:
        images: x, (B, C, H, W), with a graph to the generator.
        labels: y, (B,).
        anchors: what the released generator makes of the same latents, (B, C, H, W).
        teacher: T.
        student: S; None where no loss needs one.
        shuffled: T'; None where no loss needs it, or none was found.
    """

    images: Tensor
    labels: Tensor
    anchors: Tensor
    teacher: Labeller | Student
    student: nn.Module | None = None
    shuffled: Shuffled | None = None

    @cached_property
    def coordinates(self) -> Tensor:
        """Returns the teacher's features before they are normalised, (B, d)."""
        return self.teacher.coordinates(self.images)

    @cached_property
    def logits(self) -> Tensor:
        """Returns the teacher's answers, (B, K)."""
        return self.teacher.answer(self.coordinates)


def class_loss(batch: Batch) -> Tensor:
    """Computes the cross-entropy of the teacher's answers to the classes that were asked for."""
    return functional.cross_entropy(batch.logits, batch.labels)


def anchor_loss(batch: Batch) -> Tensor:
    """Computes the mean squared distance to the images as released."""
    return (batch.images - batch.anchors).square().mean()


def moments_loss(batch: Batch) -> Tensor:
    """Computes the squared distance of the moments to those of the images as released."""
    ours = (batch.images.flatten(1), batch.coordinates)
    with torch.no_grad():
        theirs = (batch.anchors.flatten(1), batch.teacher.coordinates(batch.anchors))
    one_hot = functional.one_hot(batch.labels, batch.teacher.n_classes).to(batch.images)
    found = batch.images.new_zeros(())
    for rows, wanted in zip(ours, theirs, strict=True):
        mean, spread = _moments(rows, one_hot)
        other, wide = _moments(wanted, one_hot)
        found = found + (mean - other).square().mean() + (spread - wide).square().mean()
    return found


def _moments(rows: Tensor, one_hot: Tensor) -> tuple[Tensor, Tensor]:
    """Returns class means (K, D), zero for a class without rows, and the pooled deviation (D,)."""
    counts = one_hot.sum(0)
    means = one_hot.T @ rows / counts.clamp_min(1)[:, None]
    return means, ((rows - one_hot @ means).square().mean(0) + 1e-8).sqrt()


def adversarial_loss(batch: Batch) -> Tensor:
    """Computes the negative divergence of the student's answers from the teacher's, clamped."""
    assert batch.student is not None
    divergence = divergences(batch.logits, batch.student(batch.images)).mean()
    return -divergence.clamp_max(MOST_DIVERGENCE)


def balance_loss(batch: Batch) -> Tensor:
    """Computes the negative entropy of the teacher's mean answer."""
    mean = batch.logits.softmax(1).mean(0)
    return (mean * mean.clamp_min(1e-12).log()).sum()


def activation_loss(batch: Batch) -> Tensor:
    """Computes the negative mean size of the teacher's features."""
    return -batch.coordinates.abs().mean()


def vaccine_loss(batch: Batch) -> Tensor:
    """Computes the negative divergence of the shuffled copies' answer from the teacher's, over
    images on which they agree; 0 where there are none, or no copies.
    """
    if batch.shuffled is None:
        return batch.images.new_zeros(())
    found = batch.shuffled(batch.images)
    agreed = found.argmax(1) == batch.logits.argmax(1)
    return -(divergences(batch.logits, found) * agreed).sum() / agreed.sum().clamp_min(1)


LOSSES: dict[str, Callable[[Batch], Tensor]] = {
    "class": class_loss,
    "anchor": anchor_loss,
    "moments": moments_loss,
    "adversarial": adversarial_loss,
    "balance": balance_loss,
    "activation": activation_loss,
    "vaccine": vaccine_loss,
}
NEED_STUDENT = ("adversarial",)
