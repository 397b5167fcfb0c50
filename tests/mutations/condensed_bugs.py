"""Bugs in condensed sets: what the published flow does, and what is easily done by mistake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dpgen.data.private import PrivateDataset
from dpgen.data.slots import RecordSlots
from dpgen.networks.fixed.random_encoder import RandomEncoder
from dpgen.privacy.mechanisms.contributions import Nobody
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.privacy.plan import Plan
from dpgen.stages import stacked
from dpgen.stages.embedding import ClassEmbeddings, StackedFeatures, class_embeddings
from dpgen.stages.stacked_plan import LABEL
from dpgen.training.condensation import Target
from tests.mutations.bug import Bug
from tests.mutations.stage_bugs import raw

RUN = "dpgen.stages.stacked.run"


def mean_distance(pixels: Tensor) -> float:
    return float(torch.pdist(pixels.detach().flatten(1).float()).mean())


def fitted_to_the_batch(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Bandwidths in units of the mean distance within what is encoded together."""

    def features(encoder: RandomEncoder, pixels: Tensor) -> Tensor:
        unit = mean_distance(pixels) / 4
        own = tuple(unit * bandwidth for bandwidth in encoder.bandwidths)
        return original(replace(encoder, bandwidths=own), pixels)

    return features


def fitted_to_the_records(original: Callable[..., Any]) -> Callable[..., Any]:
    """Kernels are weighted by how wide the records lie apart."""

    def run(data: PrivateDataset, *given: Any) -> Any:  # noqa: ANN401
        pixels, _ = raw(data)
        width = mean_distance(pixels)
        return [one._replace(weights=one.weights**width) for one in original(data, *given)]

    return run


def released_again(original: Callable[..., Any]) -> Callable[..., Any]:
    """Another encoder is asked with noise of its own, beside what was charged."""

    def run(data: PrivateDataset, plan: Plan, *given: Any) -> Any:  # noqa: ANN401
        charged = plan.required(LABEL, NoisySum)
        statistic: Any = charged.statistic
        encoder = replace(statistic.features.parts[-1], seed=99)
        fresh = ClassEmbeddings(StackedFeatures((encoder,)), statistic.n_classes)
        mechanism = NoisySum(fresh, charged.noise_multiplier)
        records = RecordSlots(data._source, data.facts)
        noise = KeyedNoise(bytes(32), "another")
        sums = mechanism.release(records, noise, witness=Nobody())["sums"]
        means, _ = class_embeddings(sums, fresh, mechanism.noise_std, data.facts.n_records)
        unpaid = Target(encoder, means, torch.ones(encoder.n_features))
        return [*original(data, plan, *given), unpaid]

    return run


def counted_exactly(original: Callable[..., Any]) -> Callable[..., Any]:
    """Sums are divided by how many records each class has."""

    def run(data: PrivateDataset, *given: Any) -> Any:  # noqa: ANN401
        _, labels = raw(data)
        n = data.facts.n_classes
        counts = torch.bincount(labels, minlength=n)[:n].clamp_min(1).double()

        def means(sums: Tensor, *others: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
            return sums[:, :-1] / counts[:, None], counts

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stacked, "class_embeddings", means)
            return original(data, *given)

    return run


BUGS = (
    Bug(
        "bandwidths from distances within a micro-batch",
        "a record moves the embeddings of all others, which clips of each do not bound",
        "condensed",
        {"dpgen.networks.fixed.random_encoder.RandomEncoder.__call__": fitted_to_the_batch},
    ),
    Bug(
        "kernels of a condensed set from distances between the records",
        "an un-noised function of the records goes into the images",
        "condensed", {RUN: fitted_to_the_records},
    ),
    Bug(
        "a second release, of another encoder, that nothing pays for",
        "epsilon is stated for one release, and there are two",
        "condensed", {RUN: released_again},
    ),
    Bug(
        "mean embeddings by counts without noise",
        "the count of a rare class tells whether somebody is in it",
        "condensed", {RUN: counted_exactly},
    ),
)  # fmt: skip
