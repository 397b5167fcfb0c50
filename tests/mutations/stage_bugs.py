"""Bugs in what a method does around the mechanisms: second paths from the records to what is
released.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dpgen.data.private import PrivateDataset
from dpgen.networks.denoiser import Denoiser
from dpgen.privacy.ledger.chain import LedgerError
from dpgen.runs.class_counts import ClassCounts
from tests.mutations.bug import Around, Bug

TRAIN = "dpgen.stages.denoising.train_teacher"
FACTS = "dpgen.data.private.PrivateDataset.facts"


def raw(data: PrivateDataset) -> tuple[Tensor, Tensor]:
    """What no method may see: pixels in [-1, 1] and labels."""
    pixels, labels = data._source.read(range(len(data._source)))
    return pixels.float() / 127.5 - 1, labels


def private_loss(denoiser: Denoiser, data: PrivateDataset) -> Tensor:
    pixels, labels = raw(data)
    labels = labels.clamp(max=denoiser.n_classes - 1)
    sigma = torch.ones(len(pixels))
    return (denoiser(pixels + 0.5, sigma, labels) - pixels).square().mean()


def without_noise(original: Callable[..., None]) -> Callable[..., None]:
    def train(denoiser: Denoiser, data: PrivateDataset, *given: Any, **named: Any) -> None:  # noqa: ANN401
        original(denoiser, data, *given, **named)
        optimizer = torch.optim.SGD(denoiser.parameters(), lr=1e-3)
        private_loss(denoiser, data).backward()
        optimizer.step()

    return train


def best_checkpoint(original: Callable[..., None]) -> Callable[..., None]:
    def train(denoiser: Denoiser, data: PrivateDataset, *given: Any, **named: Any) -> None:  # noqa: ANN401
        with torch.no_grad():
            before = {k: t.clone() for k, t in denoiser.state_dict().items()}
            loss = private_loss(denoiser, data)
        original(denoiser, data, *given, **named)
        with torch.no_grad():
            if private_loss(denoiser, data) > loss:
                denoiser.load_state_dict(before)

    return train


def stopping_early(original: Callable[..., Any]) -> Callable[..., Any]:
    def steps(data: PrivateDataset, mechanism: Any, **named: Any) -> Any:  # noqa: ANN401
        pixels, _ = raw(data)
        for step in original(data, mechanism, **named):
            yield step
            if pixels.var() > 0.3:
                return

    return steps


def true_counts(original: Callable[..., Any]) -> Callable[..., Any]:
    """The counts that the warm start uses are not the released ones."""

    def run(data: PrivateDataset, *given: Any, **named: Any) -> Any:  # noqa: ANN401
        found = original(data, *given, **named)
        _, labels = raw(data)
        counts = torch.bincount(labels, minlength=len(found.means))[: len(found.means)]
        weights = (counts / counts.sum()).double()
        return found._replace(means=found.means + (weights @ found.means) * 1e-3)

    return run


def exact_class_counts(original: Callable[..., None]) -> Callable[..., None]:
    """The class counts that a run keeps are those of the records."""

    def release(generator: Any, data: PrivateDataset, *given: Any) -> None:  # noqa: ANN401
        _, labels = raw(data)
        counts = torch.bincount(labels, minlength=data.facts.n_classes)[: data.facts.n_classes]
        true = ClassCounts(tuple(counts.double().tolist()), 1.0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("dpgen.runs.class_counts.released_counts", lambda *_: true)
            original(generator, data, *given)

    return release


def whitened(original: Callable[..., None]) -> Callable[..., None]:
    def init(records: Any, source: Any, facts: Any) -> None:  # noqa: ANN401
        original(records, source, facts)
        pixels, _ = source.read(range(len(source)))
        mean, std = pixels.float().mean(), pixels.float().std()
        read = records.read

        def normalised(slots: Any) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ANN401
            x, labels, valid = read(slots)
            return ((x + 1) * 127.5 - mean) / std, labels, valid

        records.read = normalised

    return init


def scaled_by_the_sums(original: Callable[..., Any]) -> Callable[..., Any]:
    """Divides the noisy gradient by the root mean square of the one without noise, as an adaptive
    optimiser does that was given the wrong one.
    """

    def gradient(step: Any, *given: Any) -> Any:  # noqa: ANN401
        heard = {}

        def add(source: Any, total: Tensor, std: float, t: int, name: str) -> Tensor:  # noqa: ANN401
            heard[name] = total.square().mean().sqrt().float()
            return source.add(total, std, release=t, name=name)

        step._noise = Around(step._noise, add)
        return {k: g / (heard[k] + 1) for k, g in original(step, *given).items()}

    return gradient


def counted(original: property) -> property:
    return property(
        lambda data: replace(original.fget(data), n_records=len(data._source))  # type: ignore[misc]
    )


def classes_seen(original: property) -> property:
    def facts(data: PrivateDataset) -> Any:  # noqa: ANN401
        _, labels = raw(data)
        known = original.fget(data)  # type: ignore[misc]
        seen = [name for k, name in enumerate(known.class_names) if (labels == k).any()]
        return replace(known, class_names=tuple(seen))

    return property(facts)


def two_questions(original: Callable[..., Any]) -> Callable[..., Any]:
    """The loss before and after a small move, under one charge and one noise."""

    def gradient(step: Any, objective: Any, parameters: Any) -> Any:  # noqa: ANN401
        first = original(step, objective, parameters)
        step._answered = False
        moved = {k: p + 1e-3 for k, p in parameters.items()}
        second = original(step, objective, moved)
        return {k: (first[k] + second[k]) / 2 for k in first}

    return gradient


def demanding(original: Callable[..., Any]) -> Callable[..., Any]:
    def read(records: Any, slots: Any) -> Any:  # noqa: ANN401
        pixels, labels, valid = original(records, slots)
        if not valid.all():
            raise IndexError("a record has no declared class")
        return pixels, labels, valid

    return read


BUGS = (
    Bug(
        "teacher also learns from the records without noise",
        "an un-noised gradient goes into what is released",
        "fit", {TRAIN: without_noise},
    ),
    Bug(
        "best checkpoint by the loss on private records",
        "the choice is an un-noised bit about them",
        "fit", {TRAIN: best_checkpoint},
    ),
    Bug(
        "training stops early by private records",
        "the number of steps is an un-noised function of them",
        "fit", {"dpgen.data.private.PrivateDataset.steps": stopping_early},
    ),
    Bug(
        "label histogram without noise as prior",
        "the count of a rare class tells whether somebody is in it",
        "fit", {"dpgen.stages.warm_start.run": true_counts},
    ),
    Bug(
        "class counts kept without noise",
        "the count of a rare class tells whether somebody is in it",
        "fit", {"dpgen.generator.interface.PrivateGenerator._release": exact_class_counts},
    ),
    Bug(
        "pixels normalised by mean and deviation of the records",
        "a record moves the contributions of all others",
        "fit", {"dpgen.data.slots.RecordSlots.__init__": whitened},
    ),
    Bug(
        "updates scaled by second moments of gradients without noise",
        "the size of a step is then an un-noised function of the records",
        "fit", {"dpgen.privacy.mechanisms.noisy_step.NoisyStep.gradient": scaled_by_the_sums},
    ),
    Bug(
        "number of records counted, not declared",
        "rate, denominator and price then tell neighbours apart",
        "fit", {FACTS: counted},
    ),
    Bug(
        "list of classes from the labels",
        "a class that is there for one record shows it",
        "fit", {FACTS: classes_seen},
    ),
    Bug(
        "a step asked twice under one charge",
        "the same noise on two questions: their difference has none",
        "fit", {"dpgen.privacy.mechanisms.noisy_step.NoisyStep.gradient": two_questions},
        LedgerError,
    ),
    Bug(
        "exception on a label of no declared class",
        "whether a run stops is an un-noised bit about one record",
        "fit", {"dpgen.data.slots.RecordSlots.read": demanding}, IndexError,
    ),
)  # fmt: skip
