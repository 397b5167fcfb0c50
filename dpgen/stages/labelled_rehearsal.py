"""Estimates time and memory of a run whose student learns from labelled images."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch

from dpgen.images.images import PublicFacts
from dpgen.networks.proposer import Proposer, ProposerConfig
from dpgen.networks.student import ClassifierConfig
from dpgen.runs.context import Hardware, Rehearsal
from dpgen.stages import sketch
from dpgen.stages.rehearsal import rehearse_data_free
from dpgen.stages.sketch_settings import SketchSettings
from dpgen.stages.timing import CPU, seconds_of
from dpgen.training import labelled, students
from dpgen.training.data_free_settings import LabelSettings, PupilSettings, RefinementSettings

N_DRAWN = 64


def rehearse_labelled(
    settings: SketchSettings, refinement: RefinementSettings, labels: LabelSettings,
    pupil: PupilSettings, facts: PublicFacts, hardware: Hardware,
) -> Rehearsal:  # fmt: skip
    """Estimates a run as `rehearse_data_free` does, with images that are drawn once, and two
    students where labels are changed at random.
    """
    assert labels.n_images is not None
    once = replace(pupil.student, n_steps=1)
    found = rehearse_data_free(settings, refinement, once, facts, hardware)
    decoder = sketch.untrained(facts, 0)
    proposer = Proposer(ProposerConfig(decoder.config, settings.warps, mirror=settings.mirrors))
    proposer.decoder = decoder
    generator = torch.Generator().manual_seed(0)
    asked = torch.arange(N_DRAWN) % facts.n_classes
    images = proposer.draw(asked, generator)
    device = hardware.accelerator().device
    config = ClassifierConfig(facts.shape, facts.n_classes, pupil.width)
    of_step = partial(
        labelled.learn, students.untrained(config, 0).to(device), images, asked,
        replace(pupil, n_steps=1), generator=generator, show=False,
    )  # fmt: skip
    seconds = labels.n_images / N_DRAWN * seconds_of(partial(proposer.draw, asked, generator), CPU)
    n_students = 1 if labels.randomise is None else 2
    seconds += n_students * pupil.n_steps * seconds_of(of_step, device)
    return replace(found, seconds=found.seconds + seconds)
