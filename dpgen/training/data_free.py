"""Refines a released generator by a released teacher, without data.

The generator G begins as the released decoder G_0 and descends a weighted sum of losses of the
images that it makes itself (`dpgen.training.data_free_losses`). Where a loss asks for a student,
one learns beside it, from the same images. Decoder and teacher are released, so that the result is
post-processing of them (theorem A3) and costs no privacy, however long it takes.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dpgen.networks.decoder import Decoder
from dpgen.networks.ema import EMA
from dpgen.networks.labeller import Labeller
from dpgen.networks.student import ClassifierConfig, Student
from dpgen.runs.context import Workplace
from dpgen.training.backdoor import Shuffled, suspicious
from dpgen.training.data_free_losses import LOSSES, NEED_STUDENT, Batch
from dpgen.training.data_free_settings import RefinementSettings, StudentSettings
from dpgen.training.loop import decay_rate, training_steps
from dpgen.training.students import Lessons, untrained

LABEL = "refinement"  # name of the saved state
EMA_DECAY = 0.99
N_COMPARED = 1000  # images by which shuffled copies of the teacher are chosen


def refine(
    released: Decoder,
    teacher: Labeller | Student,
    settings: RefinementSettings,
    student: StudentSettings,
    work: Workplace,
) -> Decoder:
    """Returns a refined copy of a released decoder, on the CPU.

    Args:
        released: G_0; it is not changed.
        teacher: T, of the same images and classes; it is not changed.
        settings: the numbers; with 0 steps the copy is the decoder as released.
        student: settings of the student that learns beside the generator, where a loss asks for
            one.
        work: where it computes, and the seed of all randomness.
    """
    refined = copy.deepcopy(released)
    if settings.n_steps == 0:
        return refined

    def fitted() -> Mapping[str, Tensor]:
        device = work.accelerator.device
        descend(
            refined.to(device), copy.deepcopy(released).to(device),
            copy.deepcopy(teacher).to(device), settings, student,
            generator=work.generator(500), seed=work.seed, show=work.show,
        )  # fmt: skip
        return refined.cpu().state_dict()

    refined.load_state_dict(work.checkpoints.once(LABEL, fitted))
    return refined.cpu().eval().requires_grad_(False)


def descend(
    decoder: Decoder,
    released: Decoder,
    teacher: Labeller | Student,
    settings: RefinementSettings,
    student: StudentSettings,
    *,
    generator: torch.Generator,
    seed: int,
    show: bool,
    shuffled: Shuffled | None = None,
) -> None:
    """Trains the decoder, in place; it ends with averaged weights.

    Args:
        decoder: G, on the device of ``released`` and ``teacher``.
        released, teacher, settings, student: as for `refine`.
        generator: CPU generator of all randomness but the student's initial weights.
        seed: of those.
        show: whether to show a progress bar.
        shuffled: copies of the teacher for the vaccine, where they are chosen already; else they
            are chosen after a tenth of the steps, by what the decoder then makes.
    """
    s, config = settings, decoder.config
    device = next(decoder.requires_grad_(True).parameters()).device
    weights = {name: weight for name, weight in s.weights.items() if weight > 0}
    lessons: Lessons | None = None
    if any(name in weights for name in NEED_STUDENT):
        numbers = ClassifierConfig(config.shape, config.n_classes, student.width)
        pupil = untrained(numbers, seed).to(device)
        lessons = Lessons(pupil, teacher, student, generator)
    adam = torch.optim.Adam(decoder.parameters(), lr=s.learning_rate, betas=(0.9, 0.99))
    ema = EMA(decoder, EMA_DECAY, warm_up=True)
    for step in training_steps("generator, refined", s.n_steps, decoder, ema, show=show):
        decay_rate(adam, s.learning_rate, step, s.n_steps)
        if "vaccine" in weights and step == s.n_steps // 10 and shuffled is None:
            shuffled = _chosen(decoder, teacher, generator)
        labels = torch.randint(config.n_classes, (s.batch_size,), generator=generator).to(device)
        z = torch.randn(s.batch_size, config.n_latents, generator=generator).to(device)
        images = decoder(z, labels)
        with torch.no_grad():
            anchors = released(z, labels)
        judge = None if lessons is None else lessons.student
        batch = Batch(images, labels, anchors, teacher, judge, shuffled)
        terms = [weight * LOSSES[name](batch) for name, weight in weights.items()]
        adam.zero_grad()
        torch.stack(terms).sum().backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        adam.step()
        if lessons is not None:
            lessons.step(images.detach(), labels)


def _chosen(
    decoder: Decoder, teacher: Labeller | Student, generator: torch.Generator
) -> Shuffled | None:
    """Returns shuffled copies of the teacher, chosen by images of the decoder as it is."""
    device = next(decoder.parameters()).device
    labels = torch.arange(N_COMPARED, device=device) % decoder.config.n_classes
    z = torch.randn(N_COMPARED, decoder.config.n_latents, generator=generator).to(device)
    with torch.no_grad():
        found = suspicious(teacher, decoder(z, labels), generator)
    if found is None:
        warnings.warn(
            "vaccine_weight has no effect: eight attempts gave no shuffled copies of the teacher "
            "that agree with it on a few drawn images only, which a trigger would show as",
            stacklevel=2,
        )
    return found
