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
from dpgen.networks.condensed import Condensed
from dpgen.networks.fixed.random_encoder import RandomEncoder
from dpgen.privacy.mechanisms.contributions import Nobody
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.runs.context import Workplace
from dpgen.stages import stacked
from dpgen.stages.embedding import ClassEmbeddings, StackedFeatures, class_embeddings
from dpgen.stages.stacked_plan import EmbeddingSettings
from dpgen.training.condensation import Target
from tests.mutations.bug import Bug
from tests.mutations.stage_bugs import raw

RELEASE = "dpgen.stages.stacked._release"


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

    def release(data: PrivateDataset, *given: Any) -> Any:  # noqa: ANN401
        pixels, _ = raw(data)
        width = mean_distance(pixels)
        return [one._replace(weights=one.weights**width) for one in original(data, *given)]

    return release


def released_again(original: Callable[..., Any]) -> Callable[..., Any]:
    """Another encoder is asked with noise of its own, beside what was charged."""

    def release(
        data: PrivateDataset, charged: NoisySum, k: int, work: Workplace
    ) -> list[Target]:  # fmt: skip
        found: list[Target] = original(data, charged, k, work)
        if k > 0:
            return found
        statistic: Any = charged.statistic
        encoder = replace(statistic.features.parts[-1], seed=99)
        fresh = ClassEmbeddings(StackedFeatures((encoder,)), statistic.n_classes)
        mechanism = NoisySum(fresh, charged.noise_multiplier)
        records = RecordSlots(data._source, data.facts)
        noise = KeyedNoise(bytes(32), "another")
        sums = mechanism.release(records, noise, witness=Nobody())["sums"]
        means, _ = class_embeddings(sums, fresh, mechanism.noise_std, data.facts.n_records)
        unpaid = Target(encoder, means, torch.ones(encoder.n_features))
        return [*found, unpaid]

    return release


def counted_exactly(original: Callable[..., Any]) -> Callable[..., Any]:
    """Sums are divided by how many records each class has."""

    def release(data: PrivateDataset, *given: Any) -> Any:  # noqa: ANN401
        _, labels = raw(data)
        n = data.facts.n_classes
        counts = torch.bincount(labels, minlength=n)[:n].clamp_min(1).double()

        def means(sums: Tensor, *others: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
            return sums[:, :-1] / counts[:, None], counts

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stacked, "class_embeddings", means)
            return original(data, *given)

    return release


def learned_from_records(original: Callable[..., Condensed]) -> Callable[..., Condensed]:
    """The classifier between the rounds learns from records in place of fitted images."""

    def run(
        settings: EmbeddingSettings, data: PrivateDataset, *given: Any  # noqa: ANN401
    ) -> Condensed:  # fmt: skip
        pixels, labels = raw(data)
        train = stacked.train_on_samples

        def on_records(network: Any, *_: Any, **numbers: Any) -> Any:  # noqa: ANN401
            return train(network, pixels, labels, **numbers)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stacked, "train_on_samples", on_records)
            return original(settings, data, *given)

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
        "condensed", {RELEASE: fitted_to_the_records},
    ),
    Bug(
        "a second release, of another encoder, that nothing pays for",
        "epsilon is stated for one release, and there are two",
        "condensed", {RELEASE: released_again},
    ),
    Bug(
        "mean embeddings by counts without noise",
        "the count of a rare class tells whether somebody is in it",
        "condensed", {RELEASE: counted_exactly},
    ),
    Bug(
        "a classifier between the rounds of a condensed set that learns from records",
        "the second question, and the images fitted to its answer, are functions of raw records",
        "condensed", {"dpgen.stages.stacked.run": learned_from_records},
    ),
)  # fmt: skip
