"""Trains a student from drawn images, some of which were voted on.

The student descends its cross-entropy to the class that was asked for, on drawn images that it took
for that class before, and to what was voted on those that have votes: a class, or probabilities.
Images and votes are released, so that it is post-processing of them (theorem A3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from dpgen.networks.ema import EMA
from dpgen.networks.labeller import Labeller
from dpgen.networks.proposer import Proposer
from dpgen.networks.student import Student
from dpgen.training.data_free_settings import StudentSettings
from dpgen.training.loop import training_steps
from dpgen.training.students import EMA_DECAY, Lessons

Regularise = Callable[[Student, Tensor], Tensor]


class Learn(Protocol):
    """Trains a student, in place, as `learn` does."""

    def __call__(
        self, student: Student, proposer: Proposer, judge: Student | None, images: Tensor | None,
        labels: Tensor | None, settings: StudentSettings, *, generator: torch.Generator, show: bool,
    ) -> None: ...  # fmt: skip


def learn(
    student: Student,
    proposer: Proposer,
    judge: Labeller | Student | None,
    images: Tensor | None,
    labels: Tensor | None,
    settings: StudentSettings,
    *,
    generator: torch.Generator,
    show: bool,
    regularise: Regularise | None = None,
) -> None:
    """Trains the student, in place; it ends with averaged weights.

    Args:
        student: S, on the judge's device.
        proposer: draws the images; released, and not changed.
        judge: an earlier student or a released teacher, which decides on images that have no votes;
            None keeps them all.
        images: what was voted on, (N, C, H, W); None for nothing.
        labels: what was voted: classes, (N,), or probabilities, (N, K).
        settings: the numbers; ``agreed`` says whether there is a judge at all.
        generator: CPU generator of all randomness.
        show: whether to show a progress bar.
        regularise: computes one more loss of the student, of images whose class does not matter,
            (B, C, H, W): it is given all that are drawn. None: there is none.
    """
    s, device = settings, next(student.parameters()).device
    # What is voted on counts, whoever disagrees: the judge is asked here.
    lessons = Lessons(student, student, replace(s, agreed=False), generator)
    ema = EMA(student, EMA_DECAY, warm_up=True)
    n_fresh = s.batch_size // 2
    for step in training_steps("student", s.n_steps, student, ema, show=show):
        retrospect = lessons.begin(step, ema)
        wanted = torch.randint(proposer.n_classes, (n_fresh,), generator=generator)
        pixels = proposer.draw(wanted, generator).to(device)
        wanted = wanted.to(device)
        further = None if regularise is None else regularise(student, pixels)
        if judge is not None and s.agreed:
            with torch.no_grad():
                kept = judge(pixels).argmax(1) == wanted
            pixels, wanted = pixels[kept], wanted[kept]
        if images is not None and labels is not None:
            if labels.ndim == 2:
                wanted = functional.one_hot(wanted, student.n_classes).to(labels)
            rows = torch.randint(len(labels), (n_fresh,), generator=generator)
            pixels = torch.cat([pixels, images[rows].to(device)])
            wanted = torch.cat([wanted, labels[rows].to(device)])
        lessons.step(pixels, wanted, further, retrospect=retrospect)
