"""Trains a student, a classifier, from drawn images and a released teacher alone.

The student descends its cross-entropy to the class that was asked for, on images drawn anew and on
images of earlier steps; by default only on images that the teacher takes for that class. Generator
and teacher are released, so that the student is post-processing of them (theorem A3).

References for the options of `StudentSettings`: Patel, Mopuri, Qiu (2023), "Learning to Retain
while Acquiring", arXiv 2302.14290 (`retain`); Li, Yang, Yin, Qi, Xin (2023), "Feature Affinity
Assisted Knowledge Distillation", arXiv 2302.10899 (`affinity`, here of the last features, as the
teacher has no feature maps); `dpgen.training.backdoor` (`retrospect`).
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from dpgen.networks.ema import EMA
from dpgen.networks.labeller import Labeller
from dpgen.networks.proposer import Proposer
from dpgen.networks.seeding import seeded
from dpgen.networks.student import ClassifierConfig, Student
from dpgen.runs.context import Workplace
from dpgen.training.backdoor import retrospection
from dpgen.training.data_free_settings import StudentSettings
from dpgen.training.loop import decay_rate, training_steps

LABEL = "student"  # name of the saved state
EMA_DECAY = 0.99


def untrained(config: ClassifierConfig, seed: int) -> Student:
    """Makes an untrained student."""
    with seeded(seed):
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
        teacher: Labeller | Student,
        settings: StudentSettings,
        generator: torch.Generator,
    ) -> None:
        self.student, self.teacher, self.settings = student, teacher, settings
        self.adam = torch.optim.Adam(student.parameters(), lr=settings.learning_rate)
        self._generator = generator
        self._memory: deque[tuple[Tensor, Tensor]] = deque(maxlen=settings.memory)

    def begin(self, step: int, average: EMA) -> bool:
        """Sets the learning rate of a step, counted from 0; returns whether the step retrospects.

        Where steps begin to, the learning rate starts anew, as it had come down to nothing, and so
        does the average.
        """
        s = self.settings
        first = s.n_steps - s.n_retrospecting
        if step < first:
            decay_rate(self.adam, s.learning_rate, step, first)
            return False
        if step == first:
            average.n_updates = 0
        decay_rate(self.adam, s.learning_rate, step - first, s.n_retrospecting)
        return True

    def step(
        self, images: Tensor, labels: Tensor, further: Tensor | None = None, *,
        retrospect: bool = False,
    ) -> None:  # fmt: skip
        """Takes one step on drawn images, (B, C, H, W), and as many earlier ones; on images of
        which the teacher takes none for the class that was asked for, (B,), only on earlier ones.
        Where agreement is not asked for, labels may be probabilities, (B, K). ``further`` is one
        more term of the loss. A step that retrospects unlearns beside that what a perturbation of
        the drawn images does.
        """
        if self.settings.agreed:
            with torch.no_grad():
                agreed = self.teacher(images).argmax(1) == labels
            images, labels = images[agreed], labels[agreed]
        earlier: tuple[Tensor, Tensor] | None = None
        if self._memory:
            chosen = torch.randint(len(self._memory), (), generator=self._generator)
            earlier = self._memory[int(chosen)]
        terms = [] if further is None else [further]
        new: Tensor | None = None
        if len(labels):
            self._memory.append((images, labels))
            new = self._of_new(images, labels)
            terms.append(new)
        if earlier is not None:
            terms.append(self._of_earlier(*earlier, new))
        if not terms:
            return
        self.adam.zero_grad()
        torch.stack(terms).sum().backward()
        if retrospect and len(images):
            unlearned = retrospection(self.student, self.teacher, images, self._generator)
            for parameter, gradient in zip(self.student.parameters(), unlearned, strict=True):
                assert parameter.grad is not None
                parameter.grad += gradient
        self.adam.step()

    def _of_new(self, images: Tensor, labels: Tensor) -> Tensor:
        """Computes the loss of new images, with a weight of a half, as they are half of a batch."""
        target = labels
        if labels.ndim == 1:
            target = functional.one_hot(labels, self.student.n_classes).to(images)
        if self.settings.mixing:
            images, target = cut_mixed(images, target, self._generator)
        features = self.student.features(images)
        loss = 0.5 * functional.cross_entropy(self.student.of_features(features), target)
        if self.settings.affinity > 0:
            with torch.no_grad():
                wanted = affinities(self.teacher.coordinates(images))
            gap = (affinities(features) - wanted).square().mean()
            loss = loss + self.settings.affinity * gap
        return loss

    def _of_earlier(self, images: Tensor, labels: Tensor, new: Tensor | None) -> Tensor:
        """Computes the loss of earlier images, at the weights after a step on the new ones if it is
        to be retained.
        """
        if new is None or not self.settings.retain:
            return 0.5 * functional.cross_entropy(self.student(images), labels)
        weights = dict(self.student.named_parameters())
        gradients = torch.autograd.grad(new, list(weights.values()), create_graph=True)
        rate = self.adam.param_groups[0]["lr"]
        moved = {
            name: weight - rate * gradient
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
        }
        return 0.5 * functional.cross_entropy(
            functional_call(self.student, moved, (images,)), labels
        )


def cut_mixed(
    images: Tensor, targets: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Replaces one rectangle of all images, (B, C, H, W), by that of other images of the batch, and
    mixes their targets, (B, K), by area.

    Reference: Yun et al. (2019), "CutMix", arXiv 1905.04899, with a rectangle of uniform sides.
    """
    height, width = images.shape[2:]
    order = torch.randperm(len(images), generator=generator).to(images.device)
    tall, wide, top, left = (
        int(torch.randint(1 + most, (), generator=generator))
        for most in (height, width, height, width)
    )
    rows = slice(min(top, height - tall), min(top, height - tall) + tall)
    columns = slice(min(left, width - wide), min(left, width - wide) + wide)
    mixed = images.clone()
    mixed[:, :, rows, columns] = images[order][:, :, rows, columns]
    share = tall * wide / (height * width)
    return mixed, (1 - share) * targets + share * targets[order]


def affinities(features: Tensor) -> Tensor:
    """Computes the cosines between the features of any two images, (B, D) -> (B, B)."""
    unit = functional.normalize(features, dim=1)
    return unit @ unit.T


def teach(
    proposer: Proposer, teacher: Labeller | Student, settings: StudentSettings, work: Workplace
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
    teacher: Labeller | Student,
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
        retrospect = lessons.begin(step, ema)
        labels = torch.randint(proposer.n_classes, (n_fresh,), generator=generator)
        pixels = proposer.draw(labels, generator)
        lessons.step(pixels.to(device), labels.to(device), retrospect=retrospect)
