"""Estimates time and memory of a run: times a few steps of each loop on random images, on this
machine.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from dpgen.images.grid import n_preview
from dpgen.images.images import PublicFacts
from dpgen.networks.adapters import adapted
from dpgen.networks.decoder import Decoder
from dpgen.networks.denoiser import Denoiser
from dpgen.networks.fixed.dead_leaves import dead_leaves
from dpgen.networks.hidden_features import HiddenFeatures
from dpgen.networks.labeller import Axes, Labeller, LabellerConfig
from dpgen.networks.proposer import Proposer, ProposerConfig
from dpgen.networks.spectral import N_MEASURED
from dpgen.networks.student import ClassifierConfig
from dpgen.privacy.mechanisms.clipping import add_clipped, zero_sum
from dpgen.privacy.mechanisms.contributions import Statistic
from dpgen.privacy.mechanisms.draws import KEY_BYTES, Draws
from dpgen.runs.context import Hardware, Rehearsal, multiplies_halves
from dpgen.runs.processes import joined
from dpgen.stages import sketch, sketch_plan
from dpgen.stages.classifier import N_GABOR, rehearsed
from dpgen.stages.classifier_settings import features_for
from dpgen.stages.denoising import DenoisingObjective
from dpgen.stages.embedding import ClassEmbeddings
from dpgen.stages.label_moments import LabelMoments
from dpgen.stages.micro_batch import records_at_once
from dpgen.stages.sketch import SketchSettings
from dpgen.stages.spectrum_moments import SpectrumMoments, SpectrumScale
from dpgen.stages.teacher import untrained
from dpgen.stages.teacher_settings import Teacher
from dpgen.stages.timing import CPU, rehearsal_of, seconds_of
from dpgen.training import students
from dpgen.training.backdoor import N_COPIES, Shuffled, suspicious
from dpgen.training.data_free import N_COMPARED, descend
from dpgen.training.data_free_settings import RefinementSettings, StudentSettings
from dpgen.training.denoising import NoiseLevels
from dpgen.training.distillation_settings import Distillation
from dpgen.training.imitation import features_of
from dpgen.training.imitation_settings import ImitationSettings
from dpgen.training.matching import match
from dpgen.training.refit_settings import RefitSettings
from samplers import Annealed, Sampler


def rehearse(
    settings: Teacher,
    facts: PublicFacts,
    hardware: Hardware,
    sampler: Sampler,
    n_drawn: int,
    student: Distillation | None = None,
) -> Rehearsal:
    """Estimates a run from the time of one private micro-batch and one public training step. Raises
    ValueError for a network whose loss is not finite, and for adapters in half precision.

    Args:
        settings: settings of the private stages.
        facts: public facts of the records.
        hardware: device, precision and micro-batch.
        sampler: the sampler of the preview.
        n_drawn: number of images that are drawn for the preview.
        student: the distillation that follows, if any.
    """
    settings.check_precision(hardware.precision)
    accelerator = hardware.accelerator()
    device = accelerator.device
    denoiser = untrained(settings, facts, seed=0).to(device)
    n_parameters, n_trained = sum(p.numel() for p in denoiser.parameters()), None
    if settings.adapters:
        denoiser = adapted(denoiser, settings.adapters, torch.Generator().manual_seed(0))
        n_trained = sum(p.numel() for p in denoiser.parameters())
    parameters = {name: p.detach() for name, p in denoiser.named_parameters()}
    levels = NoiseLevels(n_draws=settings.n_draws)
    objective = DenoisingObjective(denoiser, levels, settings.loss, hardware.precision)
    size = hardware.micro_batch or records_at_once(
        denoiser, settings.n_draws, settings.batch, device, half=hardware.precision == "bf16"
    )
    draws = objective.draw(Draws(bytes(KEY_BYTES), np.arange(size), device))
    pixels = torch.zeros(size, *facts.shape, device=device)
    labels = torch.zeros(size, dtype=torch.int64, device=device)
    valid = torch.ones(size, dtype=torch.bool, device=device)

    total = zero_sum(parameters)

    def private() -> None:
        batch = (pixels, labels, draws)
        add_clipped(total, objective.loss, parameters, batch, valid, settings.clip_norm)

    processes = joined()
    n_processes = 1 if processes is None else processes.n_processes
    micro_batches = settings.n_steps * math.ceil(settings.batch / size / n_processes)
    seconds = 0.0
    if settings.warm_start_share < 1:
        seconds += micro_batches * seconds_of(private, device)
        # A sum leaves out gradients that are not finite; without others, nothing is learned.
        if not any(part.any() for part in total.values()):
            raise ValueError(
                f"the loss of stand-in images must be finite, with preset {settings.preset} and "
                f"precision {hardware.precision} it is not: take another one"
            )
    evaluations = settings.pretrain_steps * settings.pretrain_batch * 3 + _preview(sampler, n_drawn)
    if (public := settings.public) is not None:
        evaluations += public.n_steps * public.batch_size * 3
    if student is not None:
        evaluations += student.evaluations
    batch = max(1, min(64, size * settings.n_draws, n_preview(facts.n_classes)))
    seconds += evaluations / batch * seconds_of(lambda: _forward(denoiser, facts, batch), device)
    return replace(rehearsal_of(seconds, n_parameters, device), n_trained=n_trained)


def rehearse_sketch(
    settings: SketchSettings, score: RefitSettings, facts: PublicFacts, hardware: Hardware,
    sampler: Sampler, n_drawn: int,
) -> Rehearsal:  # fmt: skip
    """Estimates a run from the time of one micro-batch of each release and one step of each fit, on
    random images; arguments as for `rehearse`.
    """
    device = hardware.accelerator().device
    decoder, seconds = _sketched(settings, facts)
    denoiser = Denoiser(score.network(facts)).to(device)
    # A training step costs about three forward passes.
    passes = 3 * score.n_steps + _preview(sampler, n_drawn) / score.batch_size
    seconds += passes * seconds_of(lambda: _forward(denoiser, facts, score.batch_size), device)
    networks: tuple[torch.nn.Module, ...] = (decoder, denoiser)
    if settings.spectrum is not None:
        networks = (denoiser,)
        seconds += _pictured(score.n_samples + N_MEASURED + n_drawn, facts)
    n_parameters = sum(p.numel() for one in networks for p in one.parameters())
    return rehearsal_of(seconds, n_parameters, device)


def rehearse_data_free(
    settings: SketchSettings, refinement: RefinementSettings, student: StudentSettings,
    facts: PublicFacts, hardware: Hardware, imitation: ImitationSettings | None = None,
) -> Rehearsal:  # fmt: skip
    """Estimates a run as `rehearse_sketch` does: a sketch, a decoder of its moments if those are
    imitated, then steps of a generator and of its student, as if the teacher took every image for
    the class that was asked for.
    """
    device = hardware.accelerator().device
    decoder, seconds = _sketched(settings, facts)
    if imitation is not None:
        seconds += _imitated(imitation, decoder, settings.n_samples, facts, device)
    features = features_for(facts.shape)
    n_axes = min(N_GABOR, features.n_features)
    teacher = Labeller(LabellerConfig.of(features, facts.n_classes, n_axes))
    pupil = students.untrained(ClassifierConfig(facts.shape, facts.n_classes, student.width), 0)
    generator = torch.Generator().manual_seed(0)
    if refinement.n_steps > 0:
        refined, shuffled = copy.deepcopy(decoder).to(device), None
        if refinement.vaccine_weight > 0:
            shuffled = Shuffled((teacher.to(device),) * N_COPIES)
            pixels = decoder.draw(torch.arange(50) % facts.n_classes, generator).to(device)
            choice = partial(suspicious, teacher, pixels, generator)
            seconds += N_COMPARED / len(pixels) * seconds_of(choice, device)
        step = partial(
            descend, refined, copy.deepcopy(refined), teacher.to(device),
            replace(refinement, n_steps=1), student, generator=generator, seed=0, show=False,
            shuffled=shuffled,
        )  # fmt: skip
        seconds += refinement.n_steps * seconds_of(step, device)
    proposer = Proposer(ProposerConfig(decoder.config, settings.warps, mirror=settings.mirrors))
    n_last = student.n_retrospecting
    for n, retrospect in ((student.n_steps - n_last, False), (n_last, True)):
        short = replace(student, n_steps=1, agreed=False, retrospect=retrospect)
        step = partial(
            students.learn, pupil.to(device), proposer, teacher.to(device), short,
            generator=generator, show=False,
        )  # fmt: skip
        seconds += n * seconds_of(step, device) if n else 0.0
    n_parameters = sum(p.numel() for one in (decoder, pupil) for p in one.parameters())
    return rehearsal_of(seconds, n_parameters, device)


def _pictured(n_pictures: int, facts: PublicFacts) -> float:
    """Returns the seconds in which pictures of a spectrum are drawn."""
    leaves = partial(dead_leaves, 64, facts.shape, torch.Generator().manual_seed(0))
    return n_pictures / 64 * seconds_of(leaves, CPU)


def _imitated(
    imitation: ImitationSettings, decoder: Decoder, n_samples: int, facts: PublicFacts,
    device: torch.device,
) -> float:  # fmt: skip
    """Returns the seconds of a decoder that imitates moments; the teacher sees ``n_samples``."""
    features = features_of(imitation, facts.shape)
    step = partial(
        match, copy.deepcopy(decoder).to(device),
        [(features, torch.zeros(facts.n_classes, features.n_features))], n_steps=1,
        n_per_class=imitation.n_per_class, learning_rate=imitation.learning_rate,
        generator=torch.Generator().manual_seed(0), half=multiplies_halves(device), show=False,
        title="rehearsal",
    )  # fmt: skip
    seconds = _pictured(n_samples + imitation.n_pictures + N_MEASURED, facts)
    return seconds + imitation.n_steps * seconds_of(step, device)


def _sketched(settings: SketchSettings, facts: PublicFacts) -> tuple[Decoder, float]:
    """Returns an untrained decoder, and the seconds of the releases and fits of a sketch."""
    decoder, n = sketch.untrained(facts, 0), max(64, facts.n_classes)
    labels = torch.arange(n) % facts.n_classes
    pixels = decoder.draw(labels, torch.Generator().manual_seed(0))
    seconds, embeddings = 0.0, []
    for k, (_, statistic) in enumerate(sketch_plan.statistics(settings, facts)):
        if isinstance(statistic, SpectrumScale | SpectrumMoments):
            statistic = _around_nothing(statistic)
        elif isinstance(statistic, LabelMoments):
            axes = Axes.fitted(statistic.features(pixels), statistic.n_axes)
            statistic = statistic.along(axes)
        elif isinstance(statistic, ClassEmbeddings) and isinstance(
            statistic.features, HiddenFeatures
        ):
            classifier = sketch.untrained_classifier(facts, 0)
            learned = statistic.features.learned(classifier, pixels)
            statistic = ClassEmbeddings(learned, facts.n_classes)
        seconds += facts.n_records / n * seconds_of(partial(statistic, pixels, labels), CPU)
        if isinstance(statistic, ClassEmbeddings):
            means = torch.zeros(facts.n_classes, statistic.features.n_features)
            embeddings.append((statistic.features, means))
            step = partial(
                match, copy.deepcopy(decoder), list(embeddings), n_steps=1,
                n_per_class=settings.n_per_class, learning_rate=settings.learning_rate,
                generator=torch.Generator().manual_seed(0), half=multiplies_halves(CPU),
                show=False, title="rehearsal",
            )  # fmt: skip
            seconds += settings.n_steps[k] * seconds_of(step, CPU)
    if settings.classifier is not None:
        once, each_step = rehearsed(pixels, labels, facts)
        n_images = facts.n_records + settings.classifier.n_pictures
        seconds += n_images / n * seconds_of(once, CPU)
        seconds += settings.classifier.n_steps * facts.n_records / n * seconds_of(each_step, CPU)
    return decoder, seconds


def _around_nothing(statistic: SpectrumScale | SpectrumMoments) -> Statistic:
    centre = torch.zeros(statistic.basis.n_coefficients, dtype=torch.float64)
    if isinstance(statistic, SpectrumScale):
        return statistic.around(centre)
    return statistic.around(centre, statistic.basis.radius)


def _preview(sampler: Sampler, n_drawn: int) -> int:
    """Counts the evaluations of the network for the images of the preview."""
    return n_drawn * (sampler.n_evaluations if isinstance(sampler, Annealed) else 1)


def _forward(denoiser: Denoiser, facts: PublicFacts, batch: int) -> None:
    device = next(denoiser.parameters()).device
    with torch.no_grad():
        denoiser(
            torch.zeros(batch, *facts.shape, device=device),
            torch.ones(batch, device=device),
            torch.zeros(batch, dtype=torch.int64, device=device),
        )
