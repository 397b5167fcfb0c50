"""The plan of the sketch: what its rounds and its labeller release, and the prices."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dpgen.images.facts import PublicFacts
from dpgen.networks.fixed.colour_cosines import ColourCosines
from dpgen.networks.fixed.fourier import FourierFeatures
from dpgen.networks.fixed.gabor import GaborFeatures
from dpgen.networks.hidden_features import HiddenFeatures
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.mechanisms.contributions import Statistic
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum
from dpgen.privacy.plan import Plan, Stage, split_budget
from dpgen.stages.classifier_settings import LABEL as CLASSIFIER
from dpgen.stages.embedding import ClassEmbeddings, FeatureMap
from dpgen.stages.label_moments import LABEL, LabelMoments
from dpgen.stages.sketch_settings import SketchSettings
from dpgen.stages.spectrum_moments import (
    CENTRE,
    MOMENTS,
    SCALE,
    SpectrumCentre,
    SpectrumMoments,
    SpectrumScale,
)
from dpgen.stages.spectrum_settings import SpectrumSettings
from dpgen.training.refit_settings import require_each_class

WIDTH = 16  # channels of the first convolution of the classifier between the rounds


def label(k: int) -> str:
    """Returns the name that round k is charged by."""
    return f"sketch {k + 1}"


def statistics(settings: SketchSettings, facts: PublicFacts) -> list[tuple[str, Statistic]]:
    """Lists what is released, in order; public numbers only. Refuses facts that it cannot take."""
    s = settings
    require_each_class("sketch.n_samples", s.n_samples, facts)
    found: list[tuple[str, Statistic]] = []
    if s.spectrum is not None:
        found += _spectrum(s.spectrum.resolved(facts), facts)
    pixels: FeatureMap = FourierFeatures(math.prod(facts.shape), s.n_frequencies, s.bandwidths)
    for k in range(len(s.rounds) if s.spectrum is None else 0):
        features: FeatureMap = pixels
        if k > 0:
            features = HiddenFeatures(WIDTH, s.n_hidden_frequencies, s.hidden_bandwidths, 10 * k)
        found.append((label(k), ClassEmbeddings(features, facts.n_classes)))
    if s.labeller_share > 0:
        gabor = GaborFeatures(facts.shape)
        n_axes = min(300, gabor.n_features)
        found.append((LABEL, LabelMoments(gabor, facts.n_classes, n_axes)))
    return found


def _spectrum(settings: SpectrumSettings, facts: PublicFacts) -> list[tuple[str, Statistic]]:
    assert settings.bands is not None
    assert settings.own_spread is not None
    basis = ColourCosines(facts.shape, settings.bands)
    return [
        (CENTRE, SpectrumCentre(basis, facts.n_classes)),
        (SCALE, SpectrumScale(basis, facts.n_classes)),
        (MOMENTS, SpectrumMoments(basis, facts.n_classes, settings.own_spread)),
    ]


def plan(settings: SketchSettings, facts: PublicFacts, budget: Budget) -> Plan:
    """Plans the releases and their prices."""
    multipliers, _ = split_budget(
        budget, facts.relation, shares=settings.shares, rate=1.0, n_steps=0,
        repeats=settings.repeats,
    )  # fmt: skip
    return Plan(tuple(stages(settings, facts, multipliers)), facts.relation)


def stages(
    settings: SketchSettings, facts: PublicFacts, multipliers: Sequence[float]
) -> list[Stage]:
    """Returns the stages at these noise multipliers, in the order of the settings' shares."""
    found = statistics(settings, facts)
    planned = [
        Stage(name, NoisySum(statistic, multiplier))
        for (name, statistic), multiplier in zip(found, multipliers, strict=False)
    ]
    if (classifier := settings.classifier) is not None:
        # Every record enters every step: nothing is sampled, and the steps are Gaussian releases.
        steps = NoisySGD(1.0, classifier.n_steps, multipliers[-1], facts.n_records)
        planned.append(Stage(CLASSIFIER, steps))
    return planned
