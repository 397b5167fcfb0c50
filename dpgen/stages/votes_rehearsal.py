"""Estimates time and memory of a run that asks for votes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch

from dpgen.images.images import PublicFacts
from dpgen.networks.proposer import Proposer, ProposerConfig
from dpgen.networks.student import ClassifierConfig
from dpgen.privacy.mechanisms.ensemble import NoisyEnsemble
from dpgen.privacy.plan import Plan
from dpgen.runs.context import Hardware, Rehearsal
from dpgen.stages import sketch
from dpgen.stages.rehearsal import rehearse_data_free
from dpgen.stages.sketch_settings import SketchSettings
from dpgen.stages.timing import CPU, seconds_of
from dpgen.stages.votes import rehearsed
from dpgen.stages.votes_settings import LABEL, VoteSettings
from dpgen.training import autoencoding, students, voted
from dpgen.training.data_free_settings import RefinementSettings, StudentSettings
from dpgen.training.manifold_settings import ManifoldSettings
from dpgen.training.tangent import TangentNormal


def rehearse_votes(
    settings: SketchSettings, votes: VoteSettings, plan: Plan, refinement: RefinementSettings,
    student: StudentSettings, facts: PublicFacts, hardware: Hardware,
    manifold: ManifoldSettings | None = None,
) -> Rehearsal:  # fmt: skip
    """Estimates a run as `rehearse_data_free` does, with the training of every shard's teacher and
    a student for each round and one before; and, where there is a manifold, of its autoencoder, and
    the regularisation in every step of a student.
    """
    assert votes.n_rounds is not None
    found = rehearse_data_free(settings, refinement, student, facts, hardware)
    n_shards = plan.required(LABEL, NoisyEnsemble).n_shards
    of_teacher = partial(rehearsed, votes, plan, facts)
    config = ClassifierConfig(facts.shape, facts.n_classes, student.width)
    device = hardware.accelerator().device
    pupil = students.untrained(config, 0).to(device)
    decoder = sketch.untrained(facts, 0)
    proposer = Proposer(ProposerConfig(decoder.config, settings.warps, mirror=settings.mirrors))
    proposer.decoder = decoder
    generator = torch.Generator().manual_seed(0)
    of_step = partial(
        voted.learn, pupil, proposer, None, None, None, replace(student, n_steps=1),
        generator=generator, show=False,
    )  # fmt: skip
    seconds = n_shards * seconds_of(of_teacher, CPU)
    n_steps = votes.n_rounds * student.n_steps
    seconds += n_steps * seconds_of(of_step, device)
    if manifold is not None and manifold.regularises:
        vae = autoencoding.untrained(manifold, facts.shape, 0).to(device)
        images = torch.zeros(manifold.batch_size, *facts.shape, device=device)
        once = replace(manifold, n_images=len(images), n_epochs=1)
        of_epoch = partial(
            autoencoding.fit, vae, images, once, generator=generator, show=False
        )
        seconds += manifold.n_steps(manifold.n_images) * seconds_of(of_epoch, device)
        moves = TangentNormal(vae, manifold, generator)
        moved = images[: manifold.n_moved]

        def of_moves() -> None:
            moves(pupil, moved).backward()

        seconds += (n_steps + student.n_steps) * seconds_of(of_moves, device)
    return replace(found, seconds=found.seconds + seconds)
