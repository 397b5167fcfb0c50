"""The private classifier: softmax regression of fixed features by noisy full-batch descent.

    V <- 0.9 V + G / n,   W <- W - lr V          G: the noised sum over all records, clipped at 1

and the mean of the second half of the iterates. Colour images have scattering features, with axes
of procedural pictures, of which nothing is private; others have Gabor features, with axes of images
of the sketch, which is released. Momentum, step length and average are post-processing.

Source: full-batch noisy descent of a linear classifier of scattering features as in Tramèr and
Boneh (2021), arXiv 2011.11660. Privacy: theorems B2 and F3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dpgen.data.private import PrivateDataset
from dpgen.images.facts import PublicFacts
from dpgen.images.images import to_float, to_uint8
from dpgen.networks.fixed.dead_leaves import dead_leaves
from dpgen.networks.fixed.scattering import ScatteringFeatures
from dpgen.networks.labeller import Axes, FeatureMap, Labeller, LabellerConfig, Scale, in_parts
from dpgen.privacy.mechanisms.clipping import add_clipped, zero_sum
from dpgen.privacy.mechanisms.declared import NoisySGD
from dpgen.privacy.mechanisms.softmax import WEIGHTS
from dpgen.progress import progress_bar
from dpgen.runs.checkpoint import Checkpoints
from dpgen.runs.context import Workplace
from dpgen.stages.classifier_settings import LABEL, ClassifierSettings, features_for
from dpgen.stages.descent_objective import BIAS, SoftmaxObjective

# Features are computed there, whatever the accelerator: they are as fast as they need to be.
CPU: dict[str, Any] = {"micro_batch": 256, "device": "cpu"}
MOMENTUM = 0.9
N_SCATTERING, N_GABOR = 1000, 300  # axes
AXES = "classifier axes"


def run(
    settings: ClassifierSettings, mechanism: NoisySGD, facts: PublicFacts, data: PrivateDataset,
    work: Workplace, samples: Callable[[], Tensor],
) -> Labeller:  # fmt: skip
    """Trains the classifier; a resumed run goes on after the last saved step.

    Args:
        mechanism: the steps, as they were charged.
        samples: draws released images, (M, C, H, W); called where axes are fitted to them.
    """
    features = features_for(facts.shape)

    def fitted() -> Mapping[str, Tensor]:
        return axes_of(features, samples, settings.n_pictures, work.generator(400)).tensors()

    axes = Axes.from_tensors(work.checkpoints.once(AXES, fitted))
    objective = SoftmaxObjective(features, axes)
    weights = descend(
        objective, facts.n_classes, mechanism, data, work.checkpoints, show=work.show
    )
    found = Labeller(LabellerConfig.of(features, facts.n_classes, axes.directions.shape[1]))
    scaled = weights / math.hypot(1.0, BIAS)
    found.set(axes, scaled[:-1], BIAS * scaled[-1])
    return found.eval().requires_grad_(False)


def axes_of(
    features: FeatureMap, samples: Callable[[], Tensor], n_pictures: int,
    generator: torch.Generator,
) -> Axes:  # fmt: skip
    """Fits axes to features of pictures of which none is private."""
    if not isinstance(features, ScatteringFeatures):
        return Axes.fitted(in_parts(features, samples()), min(N_GABOR, features.n_features))
    size = features.shape[0], *features.sides
    parts = [
        features(to_float(to_uint8(dead_leaves(min(250, n_pictures - k), size, generator))))
        for k in range(0, n_pictures, 250)
    ]
    rows = torch.cat(parts)
    n_axes = min(N_SCATTERING, features.n_features)
    return Axes.fitted(rows, n_axes, Scale.fitted(rows))


def learning_rate(mechanism: NoisySGD) -> float:
    """Returns the step length: longer where the noise of all steps hides less of a mean gradient.

    Chosen on training records of CIFAR-10 and MNIST, of which a part was held out.
    """
    mu = math.sqrt(mechanism.n_steps) / mechanism.noise_multiplier
    return 40.0 * (mu * mechanism.n_records / 12_000) ** 0.6


def descend(
    objective: SoftmaxObjective, n_classes: int, mechanism: NoisySGD, data: PrivateDataset,
    checkpoints: Checkpoints, *, show: bool,
) -> Tensor:  # fmt: skip
    """Runs the noisy steps from zero and returns the mean of the later weights, (d + 1, K)."""
    size = objective.axes.directions.shape[1] + 1, n_classes
    state = {name: torch.zeros(size) for name in (WEIGHTS, "velocity", "sum")}
    held, start = checkpoints.load(LABEL), 0
    if held is not None:
        state, start = held[0], int(held[1]["step"])
    rate, first_kept = learning_rate(mechanism), mechanism.n_steps // 2
    if start < mechanism.n_steps:
        with progress_bar("classifier (private)", mechanism.n_steps, show=show, done=start) as tell:
            for step in data.steps(mechanism, label=LABEL, start=start, **CPU):
                gradient = step.gradient(objective, {WEIGHTS: state[WEIGHTS]})[WEIGHTS]
                state["velocity"] = MOMENTUM * state["velocity"] + gradient
                state[WEIGHTS] = state[WEIGHTS] - rate * state["velocity"]
                if step.index >= first_kept:
                    state["sum"] = state["sum"] + state[WEIGHTS]
                done = step.index + 1
                if checkpoints.due() or done == mechanism.n_steps:
                    data.save_state(checkpoints, LABEL, state, step=done)
                tell()
    data.finish(LABEL, mechanism)
    return state["sum"] / (mechanism.n_steps - first_kept)


def rehearsed(
    pixels: Tensor, labels: Tensor, facts: PublicFacts
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Returns what is done once with these images, and at every step: to be timed.

    Args:
        pixels: any images, (B, C, H, W).
        labels: (B,).
    """
    features = features_for(facts.shape)
    scattering = isinstance(features, ScatteringFeatures)
    n_axes = min(N_SCATTERING if scattering else N_GABOR, features.n_features)
    centre = torch.zeros(features.n_features)
    scale = Scale(centre, centre + 1) if scattering else None
    axes = Axes(centre, torch.zeros(features.n_features, n_axes), scale)
    objective = SoftmaxObjective(features, axes)
    weights = {WEIGHTS: torch.zeros(n_axes + 1, facts.n_classes)}
    rows, valid = objective.prepare(pixels), torch.ones(len(pixels), dtype=torch.bool)

    def step() -> None:
        total = zero_sum(weights)
        add_clipped(total, objective.loss, weights, (rows, labels, {}), valid, 1.0)

    return partial(objective.prepare, pixels), step
