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
from dpgen.training import students, voted
from dpgen.training.data_free_settings import RefinementSettings, StudentSettings


def rehearse_votes(
    settings: SketchSettings, votes: VoteSettings, plan: Plan, refinement: RefinementSettings,
    student: StudentSettings, facts: PublicFacts, hardware: Hardware,
) -> Rehearsal:  # fmt: skip
    """Estimates a run as `rehearse_data_free` does, with the training of every shard's teacher and
    a student for each round and one before.
    """
    found = rehearse_data_free(settings, refinement, student, facts, hardware)
    n_shards = plan.required(LABEL, NoisyEnsemble).n_shards
    of_teacher = partial(rehearsed, votes, plan, facts)
    config = ClassifierConfig(facts.shape, facts.n_classes, student.width)
    device = hardware.accelerator().device
    pupil = students.untrained(config, 0).to(device)
    decoder = sketch.untrained(facts, 0)
    proposer = Proposer(ProposerConfig(decoder.config, settings.warps, mirror=settings.mirrors))
    proposer.decoder = decoder
    of_step = partial(
        voted.learn, pupil, proposer, None, None, None, replace(student, n_steps=1),
        generator=torch.Generator().manual_seed(0), show=False,
    )  # fmt: skip
    seconds = n_shards * seconds_of(of_teacher, CPU)
    seconds += votes.n_rounds * student.n_steps * seconds_of(of_step, device)
    return replace(found, seconds=found.seconds + seconds)
