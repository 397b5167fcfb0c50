"""Trains a student, a classifier, from images that are drawn once and labelled by a released
teacher.

With a randomised response the student sees other labels than the teacher gave. The response chooses
among classes that a prior finds likely, and the prior is a student: a first one learns from half of
the images, whose labels were changed among all classes, and says what is likely for the others.
Generator and teacher are released, so that the student is post-processing of them (theorem A3), and
no guarantee rests on the response.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from dpgen.networks.ema import EMA
from dpgen.networks.labeller import Labeller
from dpgen.networks.proposer import Proposer
from dpgen.networks.student import ClassifierConfig, Student
from dpgen.runs.context import Workplace
from dpgen.training.data_free_settings import LabelSettings, PupilSettings
from dpgen.training.loop import decay_rate, training_steps
from dpgen.training.randomised_response import respond
from dpgen.training.students import EMA_DECAY, LABEL, cut_mixed, untrained


def teach_labelled(
    proposer: Proposer,
    teacher: Labeller | Student,
    labels: LabelSettings,
    settings: PupilSettings,
    work: Workplace,
) -> Student:
    """Returns a student of the labels that a teacher gives to drawn images, on the CPU.

    Args:
        proposer: draws the images; released, and not changed.
        teacher: gives the labels; released, and not changed.
        labels: how many images, and whether their labels are changed at random; complete.
        settings: the numbers of the student.
        work: where it computes, and the seed of all randomness.
    """
    config = ClassifierConfig(proposer.config.shape, proposer.n_classes, settings.width)
    student = untrained(config, work.seed)

    def fitted() -> Mapping[str, Tensor]:
        assert labels.n_images is not None
        asked = torch.arange(labels.n_images) % proposer.n_classes
        images = proposer.draw(asked, work.generator(540))
        given = teacher.label(images)
        if labels.randomise is not None:
            given = randomised(images, given, labels.randomise, config, settings, work)
        learn(
            student.to(work.accelerator.device), images, given, settings,
            generator=work.generator(541), show=work.show,
        )  # fmt: skip
        return student.cpu().state_dict()

    student.load_state_dict(work.checkpoints.once(LABEL, fitted))
    return student.cpu().eval().requires_grad_(False)


def randomised(
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    config: ClassifierConfig,
    settings: PupilSettings,
    work: Workplace,
) -> Tensor:
    """Returns the randomised response to all labels, (N,): for the first half among all classes,
    for the second among those that a student of the first half finds likely.

    Args:
        images, labels: drawn images (N, C, H, W) and the teacher's labels (N,), N at least 2.
        epsilon: eps0 of each label.
        config, settings: the numbers of that student.
        work: where it computes, and the seed of all randomness.
    """
    generator, half = work.generator(542), len(images) // 2
    masses = torch.ones(half, config.n_classes)
    first = respond(labels[:half], masses, epsilon, generator)
    opinion = untrained(config, work.seed).to(work.accelerator.device)
    learn(
        opinion, images[:half], first, settings, generator=work.generator(543), show=work.show
    )
    masses = opinion.cpu().eval().probabilities(images[half:])
    return torch.cat([first, respond(labels[half:], masses, epsilon, generator)])


def learn(
    student: Student,
    images: Tensor,
    labels: Tensor,
    settings: PupilSettings,
    *,
    generator: torch.Generator,
    show: bool,
) -> None:
    """Trains the student, in place; it ends with averaged weights.

    Args:
        student: S.
        images, labels: what it learns from, (N, C, H, W) and (N,), on the CPU.
        settings: the numbers.
        generator: CPU generator of all randomness.
        show: whether to show a progress bar.
    """
    s, device = settings, next(student.parameters()).device
    adam = torch.optim.Adam(student.parameters(), lr=s.learning_rate)
    ema = EMA(student, EMA_DECAY, warm_up=True)
    for step in training_steps("student", s.n_steps, student, ema, show=show):
        decay_rate(adam, s.learning_rate, step, s.n_steps)
        rows = torch.randint(len(labels), (s.batch_size,), generator=generator)
        pixels = images[rows].to(device)
        targets = functional.one_hot(labels[rows], student.n_classes).to(pixels)
        if s.mixing:
            pixels, targets = cut_mixed(pixels, targets, generator)
        adam.zero_grad()
        functional.cross_entropy(student(pixels), targets).backward()
        adam.step()
