from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dpgen.auditing.oracle import oracle
from dpgen.privacy.mechanisms import clipping, shares
from dpgen.privacy.mechanisms.declared import NoisySGD

pytestmark = pytest.mark.usefixtures("one_thread")

MECHANISM = NoisySGD(0.3, 4, 1.0, 100, clip_norm=0.7)
Gradients = dict[str, Tensor]


def test_no_gradient_moves_the_sum_by_more_than_the_clip_norm_and_some_by_all_of_it() -> None:
    found = oracle(MECHANISM)
    assert found.passed
    assert 1 - 2e-5 < found.largest <= 1
    for name, moved in found.moved.items():
        gone = name.startswith(("zero", "tiny", "infinite", "not a number"))
        assert moved == pytest.approx(0 if gone else 1, abs=2e-5), name


def _rewritten(change: Callable[[Gradients, Tensor, float], Gradients]) -> Callable[..., None]:
    """`add_clipped` whose per-record gradients, (B, ...) each, become parts of the sum by
    ``change``.
    """

    def add(
        total: Gradients, loss_fn: Callable[..., Tensor], parameters: Gradients,
        batch: tuple[Tensor, ...], valid: Tensor, clip_norm: float,
    ) -> None:  # fmt: skip
        per_record = torch.func.vmap(torch.func.grad(loss_fn), in_dims=(None, 0, 0, 0))
        found = {k: g[valid].double() for k, g in per_record(parameters, *batch).items()}
        for name, part in change(found, valid, clip_norm).items():
            total[name] += part

    return add


def _norms(gradients: Gradients) -> Tensor:
    return torch.cat([g.reshape(len(g), -1) for g in gradients.values()], 1).norm(dim=1)


def _per_layer(gradients: Gradients, valid: Tensor, clip_norm: float) -> Gradients:
    parts = {}
    for name, g in gradients.items():
        factors = clipping.clip_factors(_norms({name: g}), clip_norm)
        parts[name] = torch.einsum("n,n...->...", factors, torch.nan_to_num(g, 0, 0, 0))
    return parts


def _of_the_mean(gradients: Gradients, valid: Tensor, clip_norm: float) -> Gradients:
    """The mean of the micro-batch clipped, times its size."""
    n = max(1, len(next(iter(gradients.values()))))
    mean = {k: torch.nan_to_num(g, 0, 0, 0).sum(0, keepdim=True) / n for k, g in gradients.items()}
    factor = clipping.clip_factors(_norms(mean), clip_norm)
    return {k: n * factor[0] * g[0] for k, g in mean.items()}


def _keeping_what_is_no_number(gradients: Gradients, valid: Tensor, clip_norm: float) -> Gradients:
    factors = (clip_norm / _norms(gradients)).clamp(max=1)
    return {k: torch.einsum("n,n...->...", factors, g) for k, g in gradients.items()}


def _centred(gradients: Gradients, valid: Tensor, clip_norm: float) -> Gradients:
    """As a batch norm does: the mean of the micro-batch is taken away before the clip."""
    finite = {k: torch.nan_to_num(g, 0, 0, 0) for k, g in gradients.items()}
    centred = {k: g - g.mean(0, keepdim=True) for k, g in finite.items()}
    factors = clipping.clip_factors(_norms(centred), clip_norm)
    return {k: torch.einsum("n,n...->...", factors, g) for k, g in centred.items()}


@pytest.mark.parametrize(
    ("change", "least"),
    [
        (_per_layer, 1.3),  # three layers: up to sqrt(3)
        (_of_the_mean, 1.5),
        (_keeping_what_is_no_number, float("inf")),
        (_centred, 1.1),
    ],
)
def test_clips_that_are_wrong_are_caught(
    change: Callable[..., Gradients], least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "add_clipped", _rewritten(change))
    found = oracle(MECHANISM)
    assert not found.passed and found.largest >= least


def test_the_rewritten_clip_is_right_when_nothing_is_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def honest(gradients: Gradients, valid: Tensor, clip_norm: float) -> Gradients:
        factors = clipping.clip_factors(_norms(gradients), clip_norm)
        kept = {k: torch.nan_to_num(g, 0, 0, 0) for k, g in gradients.items()}
        return {k: torch.einsum("n,n...->...", factors, g) for k, g in kept.items()}

    monkeypatch.setattr(shares, "add_clipped", _rewritten(honest))
    assert oracle(MECHANISM).passed
