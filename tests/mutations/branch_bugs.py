"""Bugs that only some records meet: where a draw, a class, a pixel or a place takes another branch.

What a record contributes is scaled after its clip; or the clip leaves no margin for rounding, or
what the others contribute depends on where they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpgen.privacy.mechanisms.clipping import MARGIN, zero_sum
from tests.mutations.bug import Bug, Change
from tests.mutations.clip_bugs import ADD

STEP = "dpgen.privacy.mechanisms.noisy_step.NoisyStep._batches"
FACTORS = "dpgen.privacy.mechanisms.clipping.clip_factors"
SUM_FACTORS = "dpgen.privacy.mechanisms.noisy_sum.clip_factors"
Which = Callable[[Tensor, Tensor, dict[str, Tensor]], Tensor]


def longer_where(which: Which, factor: float = 1.5) -> Change:
    """`add_clipped` that lets through more of the records of which ``which`` is true: pixels
    (B, ...), labels (B,), draws.
    """

    def change(original: Callable[..., None]) -> Callable[..., None]:
        def add(
            total: dict[str, Tensor], loss_fn: Any, parameters: Any, batch: Any, valid: Tensor,  # noqa: ANN401
            clip_norm: float,
        ) -> None:  # fmt: skip
            chosen, extra = which(*batch) & valid, zero_sum(total)
            original(total, loss_fn, parameters, batch, valid, clip_norm)
            if chosen.any():
                original(extra, loss_fn, parameters, batch, chosen, clip_norm)
                for name, part in extra.items():
                    total[name] += (factor - 1) * part

        return add

    return change


def dropped(pixels: Tensor, labels: Tensor, draws: dict[str, Tensor]) -> Tensor:
    return draws.get("drop", torch.zeros(len(labels), dtype=torch.bool))


def noisy(pixels: Tensor, labels: Tensor, draws: dict[str, Tensor]) -> Tensor:
    sigma = draws.get("sigma")
    return dropped(pixels, labels, {}) if sigma is None else (sigma > 5).any(1)


def clean(pixels: Tensor, labels: Tensor, draws: dict[str, Tensor]) -> Tensor:
    sigma = draws.get("sigma")
    return dropped(pixels, labels, {}) if sigma is None else sigma[:, -1] < 0.05


def of_class(pixels: Tensor, labels: Tensor, draws: dict[str, Tensor]) -> Tensor:
    return labels == 2


def bright(pixels: Tensor, labels: Tensor, draws: dict[str, Tensor]) -> Tensor:
    return pixels.flatten(1).mean(1) > 0.5


def last_row(pixels: Tensor, labels: Tensor, draws: dict[str, Tensor]) -> Tensor:
    return torch.arange(len(labels)) == 6


def longer_at(which: Callable[[int, np.ndarray], np.ndarray]) -> Change:
    """`NoisyStep._batches` that yields some records twice: by step and slots (B,)."""

    def change(original: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def batches(step: Any, noise: Any) -> Iterator[Any]:  # noqa: ANN401
            yield from original(step, noise)
            step._slots = step._slots[which(step.index, step._slots)]
            yield from original(step, noise)

        return batches

    return change


def odd(step: int, slots: np.ndarray) -> np.ndarray:
    return slots % 2 == 1


def in_step_17(step: int, slots: np.ndarray) -> np.ndarray:
    return np.full(len(slots), step == 17)


def in_one_class(original: Callable[..., None]) -> Callable[..., None]:
    """A release whose rows of one class are added twice."""

    def add(
        mechanism: Any, tables: Any, pixels: Tensor, labels: Tensor, valid: Tensor  # noqa: ANN401
    ) -> None:  # fmt: skip
        original(mechanism, tables, pixels, labels, valid)
        original(mechanism, tables, pixels, labels, valid & (labels == 2))

    return add


def without_margin(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda norms, clip_norm: original(norms, clip_norm * MARGIN)


def by_the_row(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """As a kernel whose rounding depends on the row, magnified."""

    def factors(norms: Tensor, clip_norm: float) -> Tensor:
        rows = torch.arange(len(norms), device=norms.device)
        return original(norms, clip_norm) * (1 - 1e-6 * (rows % 4))

    return factors


def by_the_neighbours(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """As a kernel that sums in an order which the other rows set, magnified."""

    def factors(norms: Tensor, clip_norm: float) -> Tensor:
        finite = norms.nan_to_num(0, 0, 0)
        return original(norms, clip_norm) * (1 - 1e-5 * finite.mean() / (finite.max() + 1e-30))

    return factors


def by_the_row_in_a_release(original: Callable[..., Any]) -> Callable[..., Any]:
    """The same in the features of a one-shot release."""

    def call(statistic: Any, pixels: Tensor, labels: Tensor) -> Any:  # noqa: ANN401
        rows = torch.arange(len(pixels)).reshape(-1, 1, 1, 1)
        return original(statistic, pixels * (1 - 1e-6 * (rows % 4)), labels)

    return call


LONGER = "such a record moves the sum by more than the clip norm"
SHIFT = "a record that goes moves all that come after it by a row: together past the margin"
BUGS = (
    Bug("gradients scaled where the label is dropped", LONGER, "clip",
        {ADD: longer_where(dropped)}),
    Bug("gradients scaled at high noise levels", LONGER, "clip", {ADD: longer_where(noisy)}),
    Bug(
        "gradients scaled where the last of the draws has little noise", LONGER, "clip",
        {ADD: longer_where(clean, 1.001)},
    ),
    Bug("gradients of one class scaled", LONGER, "clip", {ADD: longer_where(of_class)}),
    Bug("gradients of bright images scaled", LONGER, "clip", {ADD: longer_where(bright)}),
    Bug("gradients in one row of a micro-batch scaled", LONGER, "clip",
        {ADD: longer_where(last_row)}),
    Bug("records with odd numbers are added twice", LONGER, "clip", {STEP: longer_at(odd)}),
    Bug("records are added twice in one step of many", LONGER, "clip",
        {STEP: longer_at(in_step_17)}),
    Bug("one class is added twice to a release", LONGER, "clip",
        {"dpgen.privacy.mechanisms.noisy_sum.add_statistic": in_one_class}),
    Bug(
        "clip without its margin",
        "rounding of long sums carries a record past the clip norm",
        "clip", {FACTORS: without_margin, SUM_FACTORS: without_margin},
    ),
    Bug("gradients depend on their row in a micro-batch", SHIFT, "clip", {FACTORS: by_the_row}),
    Bug("gradients depend on their neighbours in a micro-batch",
        "a record that goes changes what the others contribute: together past the margin",
        "clip", {FACTORS: by_the_neighbours}),
    Bug("a release's features depend on their row", SHIFT, "clip",
        {"dpgen.stages.moments.ClassMeans.__call__": by_the_row_in_a_release}),
)  # fmt: skip
