"""Bugs in the private classifier, whose steps add outer products up and pay together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dpgen.privacy.accounting.events import GaussianLeaf
from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.mechanisms.clipping import clip_factors
from tests.mutations.bug import Bug
from tests.mutations.stage_bugs import raw

ADD = "dpgen.privacy.mechanisms.clipping._add_products"


def unclipped(original: Callable[..., None]) -> Callable[..., None]:
    def add(total: Tensor, left: Tensor, right: Tensor, valid: Tensor, clip_norm: float) -> None:
        kept = valid & torch.isfinite(left).all(1)
        total += left[kept].T @ right[kept]

    return add


def clipped_by_one_factor(original: Callable[..., None]) -> Callable[..., None]:
    """As if the other factor were never longer than one: it is as long as the root of two."""

    def add(total: Tensor, left: Tensor, right: Tensor, valid: Tensor, clip_norm: float) -> None:
        factors = clip_factors(left.norm(dim=1), clip_norm) * valid
        kept = factors > 0
        total += (factors[kept, None] * left[kept]).T @ right[kept]

    return add


def less_the_mean(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def prepare(objective: Any, pixels: Tensor) -> Tensor:  # noqa: ANN401
        rows = original(objective, pixels)
        return rows - rows.mean(0)

    return prepare


def of_one_release(original: property) -> property:
    """The noise that would do if the steps were one."""

    def std(mechanism: Any) -> float:  # noqa: ANN401
        return mechanism.noise_multiplier * mechanism.clip_norm / mechanism.n_steps**0.5

    return property(std)


def charged_once(original: property) -> property:
    return property(lambda mechanism: GaussianLeaf(mechanism.rate, mechanism.noise_multiplier, 1))


def from_the_records(original: Callable[..., Any]) -> Callable[..., Any]:
    """Axes of the records themselves, in place of released samples."""

    def run(*given: Any) -> Any:  # noqa: ANN401
        *others, samples = given
        real, _ = raw(given[3])
        return original(*others, lambda: torch.cat([real, samples()]))

    return run


BUGS = (
    Bug(
        "outer products not clipped",
        "a record taken for another class moves a step by more than the clip norm",
        "classifier", {ADD: unclipped},
    ),
    Bug(
        "outer products clipped by the norm of one factor",
        "the other factor is up to the root of two: so is the sensitivity",
        "classifier", {ADD: clipped_by_one_factor},
    ),
    Bug(
        "a classifier's rows less the mean of their micro-batch",
        "a record moves what all others contribute, which clips of each do not bound",
        "classifier", {"dpgen.stages.descent_objective.SoftmaxObjective.prepare": less_the_mean},
    ),
    Bug(
        "noise of a step as of one release",
        "T steps then have sqrt(T) times the mu that is claimed",
        "classifier", {"dpgen.privacy.mechanisms.declared.NoisySGD.noise_std": of_one_release},
    ),
    Bug(
        "all steps charged as one",
        "epsilon is stated smaller than it is, by about the root of T",
        "classifier", {"dpgen.privacy.mechanisms.declared.NoisySGD._leaf": charged_once},
        LedgerError,
    ),
    Bug(
        "a classifier's axes from the records",
        "the axes are released with it, and no release pays for them",
        "classifier", {"dpgen.stages.classifier.run": from_the_records},
    ),
)  # fmt: skip
