"""Releases mean embeddings of the classes under feature maps, round by round.

Privacy: theorems B2 and F3. A map is public or made from the rounds before, of norm one; maps are
stacked with one over the root of their number: a record adds one vector of norm one, and its count,
to the row of its class. Between the rounds a classifier learns from the images that were fitted so
far, and nothing reads a record. How much of a kernel's embedding is noise follows from the release
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from dpgen.data.private import PrivateDataset
from dpgen.images.facts import PublicFacts
from dpgen.networks.condensed import Condensed
from dpgen.networks.hidden_features import HiddenFeatures
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.privacy.plan import Plan
from dpgen.runs.context import Workplace
from dpgen.stages.embedding import ClassEmbeddings, StackedFeatures, class_embeddings
from dpgen.stages.release import released
from dpgen.stages.sketch import untrained_classifier
from dpgen.stages.stacked_plan import EmbeddingSettings, label
from dpgen.training.condensation import Target
from dpgen.training.sample_classifier import train_on_samples

LEAST = 1e-3  # weight of a kernel whose embedding is all noise, so that a fit has a direction
FittedFn = Callable[[int, list[Target]], Condensed]
"""Fits a set to what rounds 0 to k have released, (k, targets) -> set."""


def run(
    settings: EmbeddingSettings, data: PrivateDataset, plan: Plan, work: Workplace, fit: FittedFn
) -> Condensed:
    """Makes the rounds, and returns the set that is fitted to all of them. A resume starts after
    the last finished round.
    """
    targets: list[Target] = []
    network: Condensed | None = None
    for k in range(len(settings.rounds)):
        mechanism = plan.required(label(k), NoisySum)
        if network is not None:
            mechanism = _asking(mechanism, _hidden(settings, network, data.facts, k, work))
        targets += _release(data, mechanism, k, work)
        network = fit(k, targets)
    assert network is not None
    return network


def _asking(mechanism: NoisySum, hidden: HiddenFeatures) -> NoisySum:
    """Returns the mechanism of a later round, with the network that was made between the rounds."""
    planned = mechanism.statistic
    assert isinstance(planned, ClassEmbeddings)
    statistic = replace(planned, features=StackedFeatures((hidden,)))
    return NoisySum(statistic, mechanism.noise_multiplier)


def _release(data: PrivateDataset, mechanism: NoisySum, k: int, work: Workplace) -> list[Target]:
    """Makes the release of round k, and returns what each feature map has of it."""
    statistic, std = mechanism.statistic, mechanism.noise_std
    assert isinstance(statistic, ClassEmbeddings)
    features = statistic.features
    assert isinstance(features, StackedFeatures)
    sums = released(data, label(k), mechanism, work.checkpoints, work.show)["sums"]
    means, counts = class_embeddings(sums, statistic, std, data.facts.n_records)
    noise = (std / counts)[:, None].expand_as(means)
    return [
        Target(phi, own, trust(own, around, phi.bands))
        for phi, own, around in zip(
            features.parts, features.parted(means), features.parted(noise), strict=True
        )
    ]


def _hidden(
    settings: EmbeddingSettings, network: Condensed, facts: PublicFacts, k: int, work: Workplace
) -> HiddenFeatures:
    """Returns the map of round k, of a classifier of the images so far. It is saved, so that a
    resumed round asks the same question.
    """
    (bare,) = settings.hidden(k).parts
    assert isinstance(bare, HiddenFeatures)

    def learned() -> Mapping[str, Tensor]:
        return _learned(bare, settings, network, facts, k, work).tensors()

    held = work.checkpoints.once(f"features {k + 1}", learned)
    return bare.from_tensors(untrained_classifier(facts, 0), held)


def _learned(
    bare: HiddenFeatures, settings: EmbeddingSettings, network: Condensed, facts: PublicFacts,
    k: int, work: Workplace,
) -> HiddenFeatures:  # fmt: skip
    """Trains a classifier on images that are drawn from the set, and makes the map of it."""
    s, device, generator = settings, work.accelerator.device, work.generator(200 + k)
    classifier = untrained_classifier(facts, int(torch.randint(2**31, (), generator=generator)))
    labels = torch.arange(s.n_samples) % facts.n_classes
    pixels = network.draw(labels, generator)
    trained = train_on_samples(
        classifier.to(device), pixels.to(device), labels.to(device),
        n_steps=s.classifier_steps, generator=generator, show=work.show,
    )  # fmt: skip
    order = torch.randperm(len(labels), generator=generator)
    return bare.learned(trained, pixels[order])


def trust(means: Tensor, noise: Tensor, bands: Tensor) -> Tensor:
    """Estimates, for each feature, how much of the squared length of the released embeddings of its
    bandwidth is not noise, (d,), from `LEAST` to 1.

    Args:
        means: released embeddings, (K, d).
        noise: standard deviation of their noise, (K, d).
        bands: which bandwidth each feature is of, (d,).
    """
    weights = torch.empty(len(bands), dtype=means.dtype)
    for band in bands.unique():
        mine = bands == band
        whole, added = (values[:, mine].square().mean() for values in (means, noise))
        weights[mine] = (1 - added / whole).clamp_min(LEAST)
    return weights
