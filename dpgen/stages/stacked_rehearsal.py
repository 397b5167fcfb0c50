"""Estimates time and memory of a run that fits a condensed set."""

from __future__ import annotations

import copy
from functools import partial

import torch

from dpgen.images.images import PublicFacts
from dpgen.networks.condensed import Condensed
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.privacy.plan import Plan
from dpgen.runs.context import Hardware, Rehearsal
from dpgen.stages.embedding import ClassEmbeddings, StackedFeatures
from dpgen.stages.stacked_plan import LABEL
from dpgen.stages.timing import CPU, rehearsal_of, seconds_of
from dpgen.training.condensation import Target, condense


def rehearse_condensation(
    plan: Plan, network: Condensed, n_steps: int, facts: PublicFacts, hardware: Hardware
) -> Rehearsal:  # fmt: skip
    """Estimates a run from the time of one micro-batch of its release and one step of the fit.

    Args:
        plan: a plan of `dpgen.stages.stacked_plan`.
        network: the set, before it is fitted.
        n_steps: steps of the fit.
    """
    statistic = plan.required(LABEL, NoisySum).statistic
    assert isinstance(statistic, ClassEmbeddings)
    assert isinstance(statistic.features, StackedFeatures)
    device, n = hardware.accelerator().device, max(64, facts.n_classes)
    labels = torch.arange(n) % facts.n_classes
    pixels = torch.rand(n, *facts.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    seconds = facts.n_records / n * seconds_of(partial(statistic, pixels, labels), CPU)
    targets = [
        Target(phi, torch.zeros(facts.n_classes, phi.n_features), torch.ones(phi.n_features))
        for phi in statistic.features.parts
    ]
    step = partial(
        condense, copy.deepcopy(network), targets, n_steps=1,
        learning_rate=0.1, generator=torch.Generator().manual_seed(0), device=device,
        checkpoints=None, show=False,
    )  # fmt: skip
    seconds += n_steps * seconds_of(step, device)
    return rehearsal_of(seconds, sum(p.numel() for p in network.parameters()), device)
