"""Bugs between a record and the sum it goes into: clip, sum, denominator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dpgen.privacy.mechanisms.clipping import clip_factors
from dpgen.privacy.mechanisms.gradients import per_record_gradients
from tests.mutations.bug import Bug, Change

Gradients = dict[str, Tensor]
ADD = "dpgen.privacy.mechanisms.shares.add_clipped"


def rewritten(change: Callable[[Gradients, float], Gradients]) -> Change:
    """`add_clipped` whose per-record gradients, (B, ...) each, become parts of the sum by
    ``change``.
    """

    def add(
        total: Gradients, loss_fn: Callable[..., Tensor], parameters: Gradients,
        batch: tuple[Any, ...], valid: Tensor, clip_norm: float,
    ) -> None:  # fmt: skip
        per_record = per_record_gradients(loss_fn, parameters, batch)
        found = {k: g[valid].double() for k, g in per_record.items()}
        if valid.any():
            for name, part in change(found, clip_norm).items():
                total[name] += part

    return lambda original: add


def norms(gradients: Gradients) -> Tensor:
    return torch.cat([g.reshape(len(g), -1) for g in gradients.values()], 1).norm(dim=1)


def weighted(factors: Tensor, gradients: Gradients) -> Gradients:
    return {
        k: torch.einsum("n,n...->...", factors, torch.nan_to_num(g, 0, 0, 0))
        for k, g in gradients.items()
    }


def per_layer(gradients: Gradients, clip_norm: float) -> Gradients:
    parts: Gradients = {}
    for k, g in gradients.items():
        parts |= weighted(clip_factors(norms({k: g}), clip_norm), {k: g})
    return parts


def of_the_mean(gradients: Gradients, clip_norm: float) -> Gradients:
    n = len(next(iter(gradients.values())))
    mean = {k: torch.nan_to_num(g, 0, 0, 0).mean(0, keepdim=True) for k, g in gradients.items()}
    return weighted(n * clip_factors(norms(mean), clip_norm), mean)


def of_pairs(gradients: Gradients, clip_norm: float) -> Gradients:
    """The last record goes alone where their number is odd."""
    n = len(next(iter(gradients.values())))
    pairs = torch.arange(n) // 2
    sizes = torch.bincount(pairs).double()
    finite = {k: torch.nan_to_num(g, 0, 0, 0) for k, g in gradients.items()}
    sums = {
        k: g.new_zeros(len(sizes), *g.shape[1:]).index_add_(0, pairs, g) for k, g in finite.items()
    }
    factors = (clip_norm * sizes / norms(sums).clamp_min(1e-300)).clamp(max=1)
    return weighted(factors, sums)


def keeping_what_is_no_number(gradients: Gradients, clip_norm: float) -> Gradients:
    factors = (clip_norm / norms(gradients)).clamp(max=1)
    return {k: torch.einsum("n,n...->...", factors, g) for k, g in gradients.items()}


def centred(gradients: Gradients, clip_norm: float) -> Gradients:
    finite = {k: torch.nan_to_num(g, 0, 0, 0) for k, g in gradients.items()}
    less = {k: g - g.mean(0, keepdim=True) for k, g in finite.items()}
    return weighted(clip_factors(norms(less), clip_norm), less)


def to_the_median(gradients: Gradients, clip_norm: float) -> Gradients:
    lengths = norms(gradients)
    return weighted(clip_factors(lengths, float(lengths.nan_to_num(0, 0, 0).median())), gradients)


def shouting(gradients: Gradients, clip_norm: float) -> Gradients:
    lengths = norms(gradients)
    if not torch.isfinite(lengths).all():
        raise FloatingPointError("a gradient is not finite")
    return weighted(clip_factors(lengths, clip_norm), gradients)


def unclipped(gradients: Gradients, clip_norm: float) -> Gradients:
    return weighted(torch.isfinite(norms(gradients)).double(), gradients)


def after_accumulation(original: Callable[..., None]) -> Callable[..., None]:
    def add(total: Gradients, *given: Any) -> None:  # noqa: ANN401
        *rest, clip_norm = given
        original(total, *rest, 1e35)
        factor = float(clip_factors(norms({k: t[None] for k, t in total.items()}), clip_norm)[0])
        for part in total.values():
            part *= factor

    return add


def by_the_batch(original: Callable[..., Gradients]) -> Callable[..., Gradients]:
    def gradient(step: Any, *given: Any) -> Gradients:  # noqa: ANN401
        answer, expected = original(step, *given), step._mechanism.expected_batch
        return {k: expected / max(1, len(step._slots)) * g for k, g in answer.items()}

    return gradient


def in_single_precision(original: Callable[..., Gradients]) -> Callable[..., Gradients]:
    return lambda parameters: {k: t.float() for k, t in original(parameters).items()}


def table_by_table(keep: bool) -> Change:
    """`add_statistic` that clips tables one by one; or that keeps what is no number."""

    def add(release: Any, tables: Gradients, pixels: Tensor, labels: Tensor, valid: Tensor) -> None:  # noqa: ANN401
        blocks, bound = release.statistic(pixels, labels), release.statistic.bound
        lengths = {k: b.values.double().norm(dim=1) for k, b in blocks.items()}
        whole = torch.stack(list(lengths.values())).norm(dim=0)
        for name, block in blocks.items():
            if keep:
                rows = (bound / whole).clamp(max=1)[:, None] * block.values.double()
            else:
                factors = clip_factors(lengths[name], bound)
                rows = factors[:, None] * torch.nan_to_num(block.values.double(), 0, 0, 0)
            tables[name].index_add_(0, block.rows[valid], rows[valid])

    return lambda original: add


def less_the_mean(original: Callable[..., Any]) -> Callable[..., Any]:
    def call(statistic: Any, pixels: Tensor, labels: Tensor) -> Any:  # noqa: ANN401
        return original(statistic, pixels - pixels.mean(0), labels)

    return call


def with_batch_norm(original: Callable[..., None]) -> Callable[..., None]:
    def init(network: Any, config: Any) -> None:  # noqa: ANN401
        original(network, config)
        network.norm = torch.nn.BatchNorm2d(config.shape[0])

    return init


BUGS = (
    Bug(
        "clip per layer",
        "a record moves each layer by the clip norm, so L layers together by sqrt(L) of it",
        "clip", {ADD: rewritten(per_layer)},
    ),
    Bug(
        "clip the mean of the batch",
        "one record can turn the whole batch around: sensitivity grows with the batch",
        "clip", {ADD: rewritten(of_the_mean)},
    ),
    Bug(
        "clip the means of pairs in a micro-batch",
        "a record drags its partner along: sensitivity 2 C",
        "clip", {ADD: rewritten(of_pairs)},
    ),
    Bug(
        "clip after accumulation",
        "the sum of all is clipped, a record can turn it around: sensitivity 2 C",
        "clip", {ADD: after_accumulation},
    ),
    Bug(
        "no clip",
        "no bound on what a record contributes",
        "clip", {ADD: rewritten(unclipped)},
    ),
    Bug(
        "clip norm from the batch's own median",
        "an un-noised quantile of the records scales everybody's gradient",
        "clip", {ADD: rewritten(to_the_median)},
    ),
    Bug(
        "NaN and infinity not zeroed",
        "zero times infinity is NaN: one record destroys the sum, which everybody sees",
        "clip", {ADD: rewritten(keeping_what_is_no_number)},
    ),
    Bug(
        "exception on a bad record",
        "whether a run stops is an un-noised bit about one record",
        "clip", {ADD: rewritten(shouting)}, FloatingPointError,
    ),
    Bug(
        "records interact before the clip, as in batch norm",
        "a record moves the gradients of the others, which clips of each do not bound",
        "clip", {ADD: rewritten(centred)},
    ),
    Bug(
        "batch norm in the private network",
        "its statistics are of the batch, so no gradient belongs to one record",
        "fit", {"dpgen.networks.denoiser.Denoiser.__init__": with_batch_norm}, ValueError,
    ),
    Bug(
        "statistic less the mean of its micro-batch",
        "a record moves the contributions of the others in a one-shot release",
        "fit", {"dpgen.stages.moments.ClassMeans.__call__": less_the_mean},
    ),
    Bug(
        "divide by the actual batch size",
        "signal and noise scale with an un-noised count of records",
        "clip", {"dpgen.privacy.mechanisms.noisy_step.NoisyStep.gradient": by_the_batch},
    ),
    Bug(
        "sums in single precision",
        "rounding of a long sum carries a record's contribution past the clip norm",
        "clip", {"dpgen.privacy.mechanisms.noisy_step.zero_sum": in_single_precision},
    ),
    Bug(
        "one-shot release clipped table by table",
        "a record's tables together move by sqrt(2) of the bound that is priced",
        "clip", {"dpgen.privacy.mechanisms.noisy_sum.add_statistic": table_by_table(keep=False)},
    ),
    Bug(
        "NaN not zeroed in a one-shot release",
        "one record destroys a row of the release, which everybody sees",
        "clip", {"dpgen.privacy.mechanisms.noisy_sum.add_statistic": table_by_table(keep=True)},
    ),
)  # fmt: skip
