"""Trains a student, a classifier, from a pool of images of which some were voted on.

The student first learns what was voted. Other images of the pool, for which it is then confident of
a class, count as images of that class, and a second student learns from both. Pool and votes are
released or public, so that it is post-processing of them (theorem A3).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dpgen.networks.student import ClassifierConfig, Student
from dpgen.runs.context import Workplace
from dpgen.training.data_free_settings import PupilSettings
from dpgen.training.labelled import learn
from dpgen.training.students import LABEL, untrained


def teach_pool(
    pool: Tensor,
    asked: Tensor,
    voted: Tensor,
    n_classes: int,
    settings: PupilSettings,
    confidence: float,
    work: Workplace,
) -> Student:
    """Returns a student of the votes and of the other images of a pool, on the CPU.

    Args:
        pool: all images, (N, C, H, W) in [-1, 1].
        asked: positions of those that were voted on, (Q,).
        voted: their classes, (Q,).
        n_classes: number of classes.
        settings: the numbers of each student.
        confidence: probability from which on an image that was not voted on counts; 1 leaves all of
            them out.
        work: where it computes, and the seed of all randomness.
    """
    _, depth, height, width = pool.shape
    config = ClassifierConfig((depth, height, width), n_classes, settings.width)
    student = untrained(config, work.seed)

    def fitted() -> Mapping[str, Tensor]:
        device = work.accelerator.device
        images, labels = pool[asked], voted
        learn(
            student.to(device), images, labels, settings,
            generator=work.generator(550), show=work.show,
        )  # fmt: skip
        others = torch.ones(len(pool), dtype=torch.bool)
        others[asked] = False
        if confidence < 1 and others.any():
            rest = pool[others]
            sure, named = student.cpu().eval().probabilities(rest).max(1)
            kept = sure >= confidence
            images = torch.cat([images, rest[kept]])
            labels = torch.cat([labels, named[kept]])
            second = untrained(config, work.seed).to(device)
            learn(
                second, images, labels, settings, generator=work.generator(551), show=work.show
            )
            student.load_state_dict(second.state_dict())
        return student.cpu().state_dict()

    student.load_state_dict(work.checkpoints.once(LABEL, fitted))
    return student.cpu().eval().requires_grad_(False)
