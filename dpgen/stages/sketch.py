r"""The sketch: mean embeddings of the classes in a few releases, and a decoder fitted to them.

    round 1     Fourier features of the pixels
    round k     Fourier features of the hidden layers of a classifier trained on what the decoder
                made after round k - 1

Each round is one Gaussian release (`ClassEmbeddings`), adaptive, exactly mu-GDP in all. Between the
rounds and after them nothing reads a record: the decoder is fitted to all released embeddings
(`dpgen.training.matching`), at no cost and as long as one likes. With a share for the labeller
(`dpgen.stages.labeller`) one more release tells which images look like their class.

Colour images have a spectrum in place of the rounds (`dpgen.stages.spectrum`): there the decoder
finds images of noise that have the released embeddings, too.

Reference: Harder et al. (2021), arXiv 2002.11603, for a generator fitted to a released embedding.
Privacy: theorems B2 and F3.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dpgen.data.private import PrivateDataset
from dpgen.images.facts import PublicFacts
from dpgen.networks.decoder import Decoder, DecoderConfig
from dpgen.networks.fixed.warps import augmented
from dpgen.networks.hidden_features import HiddenFeatures, placed
from dpgen.networks.labeller import Axes, Labeller, LabellerConfig, in_parts
from dpgen.networks.perceptual import PerceptualNetwork
from dpgen.networks.proposer import Proposer, ProposerConfig
from dpgen.networks.seeding import seeded
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum
from dpgen.privacy.plan import Plan
from dpgen.runs.context import Workplace, multiplies_halves
from dpgen.stages import classifier, classifier_settings, labeller, spectrum
from dpgen.stages.embedding import ClassEmbeddings, class_embeddings
from dpgen.stages.label_moments import LABEL, LabelMoments
from dpgen.stages.release import released
from dpgen.stages.sketch_plan import WIDTH, label
from dpgen.stages.sketch_settings import SketchSettings
from dpgen.training.matching import Embedding, match
from dpgen.training.sample_classifier import train_on_samples

__all__ = ["SketchSettings", "Sketched", "run", "untrained", "untrained_classifier"]


class Sketched(NamedTuple):
    """What a sketch gives: what draws its images, and a private classifier if one was asked for."""

    proposer: Proposer
    classifier: Labeller | None

    @property
    def own(self) -> dict[str, nn.Module]:
        """Returns the classifier by the name of its file; nothing if there is none."""
        return {} if self.classifier is None else {"classifier": self.classifier}


def run(
    settings: SketchSettings, facts: PublicFacts, data: PrivateDataset, plan: Plan, work: Workplace
) -> Sketched:
    """Makes the rounds and fits the decoder to them all, or releases the spectrum, and fits the
    labeller and the classifier if they have a share of the budget. A resume starts after the last
    finished round.
    """
    s = settings
    if s.spectrum is None:
        proposer = _decoded(s, facts, data, plan, work)
    else:
        pictures = spectrum.run(data, plan, s.spectrum.detail, s.mirrors, work)
        proposer = Proposer(ProposerConfig(None, s.warps, spectrum=pictures.config))
        proposer.spectrum = pictures
    if s.labeller_share > 0:
        mechanism = plan.required(LABEL, NoisySum)
        proposer = proposer.judged_by(_labeller(proposer, mechanism, s.n_samples, data, work))
    found: Labeller | None = None
    if s.classifier is not None:
        steps = plan.required(classifier_settings.LABEL, NoisySGD)
        labels = torch.arange(s.n_samples) % facts.n_classes

        def samples() -> Tensor:
            return proposer.draw(labels, work.generator(301))

        found = classifier.run(s.classifier, steps, facts, data, work, samples)
        if s.classifier.judges:
            proposer = proposer.judged_by(found)
    return Sketched(proposer.eval().requires_grad_(False), found)


def _decoded(
    settings: SketchSettings, facts: PublicFacts, data: PrivateDataset, plan: Plan, work: Workplace
) -> Proposer:
    """Makes the rounds and fits the decoder to them all."""
    s, checkpoints = settings, work.checkpoints
    decoder = untrained(facts, work.seed)
    embeddings: list[Embedding] = []
    network: PerceptualNetwork | None = None
    for k in range(len(s.rounds)):
        mechanism = plan.required(label(k), NoisySum)
        statistic = mechanism.statistic
        assert isinstance(statistic, ClassEmbeddings)
        if isinstance(statistic.features, HiddenFeatures):
            assert network is not None
            features = _hidden(statistic.features, network, decoder, s, facts, k, work)
            statistic = ClassEmbeddings(features, statistic.n_classes, statistic.count_weight)
            mechanism = NoisySum(statistic, mechanism.noise_multiplier)
        sums = released(data, label(k), mechanism, checkpoints, work.show)["sums"]
        means, _ = class_embeddings(sums, statistic, mechanism.noise_std, facts.n_records)
        embeddings.append((statistic.features, means))
        network = _fitted(decoder, embeddings, s, facts, k, work)
    proposer = Proposer(ProposerConfig(decoder.config, s.warps, mirror=s.mirrors))
    proposer.decoder = decoder
    return proposer


def untrained(facts: PublicFacts, seed: int) -> Decoder:
    """Makes an untrained decoder."""
    with seeded(seed):
        return Decoder(DecoderConfig(facts.shape, facts.n_classes))


def _fitted(
    decoder: Decoder,
    embeddings: list[Embedding],
    settings: SketchSettings,
    facts: PublicFacts,
    k: int,
    work: Workplace,
) -> PerceptualNetwork | None:
    """Fits the decoder to the rounds so far, in place, and returns a classifier of its images if
    another round follows.
    """
    s, last = settings, k + 1 == len(settings.rounds)

    def fitted() -> Mapping[str, Tensor]:
        generator, device = work.generator(100 + k), work.accelerator.device
        match(
            decoder.to(device),
            [(placed(phi, device), means) for phi, means in embeddings],
            n_steps=s.n_steps[k],
            n_per_class=s.n_per_class,
            learning_rate=s.learning_rate,
            generator=generator,
            half=multiplies_halves(device),
            show=work.show,
            title=f"decoder, round {k + 1}",
        )
        decoder.cpu()  # it draws there, from CPU generators
        state = {f"decoder.{n}": t for n, t in decoder.state_dict().items()}
        if not last:
            network = _trained(decoder, s, facts, generator, work)
            state |= {f"network.{n}": t for n, t in network.state_dict().items()}
        return state

    held = work.checkpoints.once(f"decoder {k + 1}", fitted)
    decoder.load_state_dict(_part(held, "decoder."))
    if last:
        return None
    network = untrained_classifier(facts, 0)
    network.load_state_dict(_part(held, "network."))
    return network


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def untrained_classifier(facts: PublicFacts, seed: int) -> PerceptualNetwork:
    """Makes the untrained classifier between the rounds."""
    with seeded(seed):
        return PerceptualNetwork(facts.shape, facts.n_classes, width=WIDTH)


def _trained(
    decoder: Decoder,
    settings: SketchSettings,
    facts: PublicFacts,
    generator: torch.Generator,
    work: Workplace,
) -> PerceptualNetwork:
    """Trains a classifier of the decoder's images."""
    s, device = settings, work.accelerator.device
    network = untrained_classifier(facts, int(torch.randint(2**31, (), generator=generator)))
    network.to(device)
    labels = torch.arange(s.n_samples) % facts.n_classes
    pixels = augmented(decoder.draw(labels, generator), s.warps, s.mirrors, generator)
    return train_on_samples(
        network, pixels.to(device), labels.to(device),
        n_steps=s.classifier_steps, generator=generator, show=work.show,
    )  # fmt: skip


def _hidden(
    features: HiddenFeatures,
    network: PerceptualNetwork,
    decoder: Decoder,
    settings: SketchSettings,
    facts: PublicFacts,
    k: int,
    work: Workplace,
) -> HiddenFeatures:
    """Returns the map of round k, from the checkpoint, so that a resumed round asks the same
    question.
    """

    def learned() -> Mapping[str, Tensor]:
        labels = torch.arange(2000) % facts.n_classes
        generator = work.generator(200 + k)
        drawn = decoder.draw(labels, generator)
        samples = augmented(drawn, settings.warps, settings.mirrors, generator)
        return features.learned(network, samples).tensors()

    held = work.checkpoints.once(f"features {k + 1}", learned)
    return features.from_tensors(untrained_classifier(facts, 0), held)


def _labeller(
    proposer: Proposer, mechanism: NoisySum, n_samples: int, data: PrivateDataset, work: Workplace
) -> Labeller:
    moments, checkpoints = mechanism.statistic, work.checkpoints
    assert isinstance(moments, LabelMoments)
    labels = torch.arange(n_samples) % moments.n_classes

    @cache
    def samples() -> Tensor:
        return proposer.draw(labels, work.generator(300))

    def axes() -> Mapping[str, Tensor]:
        rows = in_parts(moments.features, samples())
        return Axes.fitted(rows, moments.n_axes).tensors()

    along = moments.along(Axes.from_tensors(checkpoints.once("axes", axes)))
    mechanism = NoisySum(along, mechanism.noise_multiplier)
    tables = released(data, LABEL, mechanism, checkpoints, work.show)

    def fitted() -> Mapping[str, Tensor]:
        noise, n_records = mechanism.noise_std, data.facts.n_records
        return labeller.fit(along, tables, noise, n_records, samples(), labels).state_dict()

    found = Labeller(LabellerConfig(along.features, along.n_classes, along.n_axes))
    found.load_state_dict(checkpoints.once("labeller", fitted))
    return found
