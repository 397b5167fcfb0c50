"""Trains a student, a classifier, from drawn images and a released teacher alone.

The student descends its cross-entropy to the class that was asked for, on images drawn anew and on
images of earlier steps; by default only on images that the teacher takes for that class. Generator
and teacher are released, so that the student is post-processing of them (theorem A3).
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from dpgen.networks.ema import EMA
from dpgen.networks.labeller import Labeller
from dpgen.networks.proposer import Proposer
from dpgen.networks.student import ClassifierConfig, Student
from dpgen.runs.context import Workplace
from dpgen.training.data_free_settings import StudentSettings
from dpgen.training.loop import decay_rate, training_steps

LABEL = "student"  # name of the saved state
EMA_DECAY = 0.99


def untrained(config: ClassifierConfig, seed: int) -> Student:
    """Makes an untrained student."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return Student(config)


class Lessons:
    """The steps of one student, and its memory of earlier images.

    Args:
        student: S, trained in place.
        teacher: T, on the same device.
        settings: the numbers.
        generator: CPU generator of all randomness.
    """

    def __init__(
        self,
        student: Student,
        teacher: Labeller,
        settings: StudentSettings,
        generator: torch.Generator,
    ) -> None:
        self.student, self.teacher, self.settings = student, teacher, settings
        self.adam = torch.optim.Adam(student.parameters(), lr=settings.learning_rate)
        self._generator = generator
        self._memory: deque[tuple[Tensor, Tensor]] = deque(maxlen=settings.memory)

    def step(self, images: Tensor, labels: Tensor) -> None:
        """Takes one step on drawn images, (B, C, H, W), and as many earlier ones; on images of
        which the teacher takes none for the class that was asked for, (B,), only on earlier ones.
        """
        if self.settings.agreed:
            with torch.no_grad():
                agreed = self.teacher(images).argmax(1) == labels
            images, labels = images[agreed], labels[agreed]
        parts = [(images, labels)] if len(labels) else []
        if self._memory:
            chosen = torch.randint(len(self._memory), (), generator=self._generator)
            parts.append(self._memory[int(chosen)])
        if len(labels):
            self._memory.append((images, labels))
        if not parts:
            return
        pixels, classes = (torch.cat(found) for found in zip(*parts, strict=True))
        loss = functional.cross_entropy(self.student(pixels), classes)
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()


def teach(
    proposer: Proposer, teacher: Labeller, settings: StudentSettings, work: Workplace
) -> Student:
    """Returns a student of the images that a proposer draws, on the CPU.

    Args:
        proposer: draws the images; released, and not changed.
        teacher: T; released, and not changed.
        settings: the numbers.
        work: where it computes, and the seed of all randomness.
    """
    config = ClassifierConfig(proposer.config.shape, proposer.n_classes, settings.width)
    student = untrained(config, work.seed)

    def fitted() -> Mapping[str, Tensor]:
        device = work.accelerator.device
        learn(
            student.to(device), proposer, copy.deepcopy(teacher).to(device), settings,
            generator=work.generator(501), show=work.show,
        )  # fmt: skip
        return student.cpu().state_dict()

    student.load_state_dict(work.checkpoints.once(LABEL, fitted))
    return student.cpu().eval().requires_grad_(False)


def learn(
    student: Student,
    proposer: Proposer,
    teacher: Labeller,
    settings: StudentSettings,
    *,
    generator: torch.Generator,
    show: bool,
) -> None:
    """Trains the student, in place; it ends with averaged weights.

    Args:
        student: S, on the teacher's device.
        proposer, teacher, settings: as for `teach`.
        generator: CPU generator of all randomness.
        show: whether to show a progress bar.
    """
    s, device = settings, next(student.parameters()).device
    lessons = Lessons(student, teacher, s, generator)
    ema = EMA(student, EMA_DECAY, warm_up=True)
    n_fresh = s.batch_size // 2
    for step in training_steps("student", s.n_steps, student, ema, show=show):
        decay_rate(lessons.adam, s.learning_rate, step, s.n_steps)
        labels = torch.randint(proposer.n_classes, (n_fresh,), generator=generator)
        pixels = proposer.draw(labels, generator)
        lessons.step(pixels.to(device), labels.to(device))
