"""Estimates time and memory of a run that fits a condensed set."""

from __future__ import annotations

import copy
from functools import partial

import torch

from dpgen.images.images import PublicFacts
from dpgen.networks.condensed import Condensed
from dpgen.networks.hidden_features import HiddenFeatures
from dpgen.networks.perceptual import PerceptualNetwork
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.privacy.plan import Plan
from dpgen.runs.context import Hardware, Rehearsal
from dpgen.stages.embedding import ClassEmbeddings, StackedFeatures
from dpgen.stages.sketch import untrained_classifier
from dpgen.stages.stacked_plan import EmbeddingSettings, label
from dpgen.stages.timing import CPU, rehearsal_of, seconds_of
from dpgen.training.condensation import Changes, Target, condense
from dpgen.training.sample_classifier import train_on_samples


def rehearse_condensation(
    plan: Plan, network: Condensed, settings: EmbeddingSettings, n_steps: int, changes: Changes,
    facts: PublicFacts, hardware: Hardware,
) -> Rehearsal:  # fmt: skip
    """Estimates a run from the time of one micro-batch of each release, one step of each fit and
    one of a classifier.

    Args:
        plan: a plan of `dpgen.stages.stacked_plan`.
        network: the set, before it is fitted.
        settings: those of the plan.
        n_steps: steps of the fit after each round.
        changes: how images are changed in the fit.
    """
    device, n = hardware.accelerator().device, max(64, facts.n_classes)
    labels, generator = torch.arange(n) % facts.n_classes, torch.Generator().manual_seed(0)
    pixels = torch.rand(n, *facts.shape, generator=generator) * 2 - 1
    seconds, targets = 0.0, []
    for k in range(len(settings.rounds)):
        statistic = plan.required(label(k), NoisySum).statistic
        assert isinstance(statistic, ClassEmbeddings)
        assert isinstance(statistic.features, StackedFeatures)
        parts = statistic.features.parts
        if k > 0:
            classifier = untrained_classifier(facts, 0)

            def learn(classifier: PerceptualNetwork = classifier) -> None:
                train_on_samples(
                    classifier.to(device), pixels.to(device), labels.to(device),
                    n_steps=1, generator=generator, show=False,
                )  # fmt: skip

            seconds += settings.classifier_steps * seconds_of(learn, device)
            bare = [phi for phi in parts if isinstance(phi, HiddenFeatures)]
            parts = tuple(phi.learned(classifier.cpu(), pixels) for phi in bare)
            statistic = ClassEmbeddings(StackedFeatures(parts), facts.n_classes)
        seconds += facts.n_records / n * seconds_of(partial(statistic, pixels, labels), CPU)
        targets += [
            Target(phi, torch.zeros(facts.n_classes, phi.n_features), torch.ones(phi.n_features))
            for phi in parts
        ]
        step = partial(
            condense, copy.deepcopy(network), list(targets), name="rehearsal", n_steps=1,
            learning_rate=0.1, smooth=0.1, changes=changes, generator=generator, device=device,
            checkpoints=None, show=False,
        )  # fmt: skip
        seconds += n_steps * seconds_of(step, device)
    return rehearsal_of(seconds, sum(p.numel() for p in network.parameters()), device)
