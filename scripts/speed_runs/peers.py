"""Measures Opacus, with which other private diffusion models are trained, on the same network.

    hooks   gradients of every noised image, averaged over a record's draws before the clip: the
            K-fold batch of DPDM. Its convolutions are wrong where an activation lies channels last.
    ghost   norms without gradients; every noised image is a record, for it cannot average draws.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dpgen.privacy.mechanisms.clipping import clip_factors
from dpgen.stages.denoising import DenoisingObjective
from dpgen.training.denoising import NoiseLevels
from speed_runs.bench import Bench, over
from speed_runs.steps import Case, preset

CASES = [("small", 28, 1, 32), ("small", 28, 8, 64)]
ON_GPU = 1024  # noised images of a micro-batch there


def peers(bench: Bench) -> None:
    """Measures the time of the layer engine and of Opacus over that of the plain step."""
    for name, side, n_draws, n_images in CASES:
        case = Case(preset(name, side), n_draws, ON_GPU if bench.on_gpu else n_images, bench.device)
        runners = {"layers": case.private, "hooks": hooks(case), "ghost": ghost(case)}
        found = bench.race({"plain": case.plain, **runners})
        for who in runners:
            bench.add(
                "peer", preset=name, side=side, draws=n_draws, images=case.n_images, engine=who,
                time_over_plain=over(found, who, "plain"),
                time_over_layers=over(found, who, "layers"),
            )  # fmt: skip


def losses(case: Case) -> Tensor:
    """Computes the loss of every noised image, (images,)."""
    pixels, labels, draws = case.batch
    k = draws["sigma"].shape[1]
    rows = {name: draws[name].flatten(0, 1)[:, None] for name in ("sigma", "noise")}
    rows["drop"] = draws["drop"].repeat_interleave(k)
    alone = DenoisingObjective(case.network, NoiseLevels(n_draws=1))
    return alone.losses(case.network, *(t.repeat_interleave(k, 0) for t in (pixels, labels)), rows)


def hooks(case: Case) -> Callable[[], None]:
    from opacus.grad_sample import GradSampleModule

    inner, n_draws = case.network.unet, case.batch[2]["sigma"].shape[1]

    def run() -> None:
        wrapped = GradSampleModule(inner, loss_reduction="sum", batch_first=True, strict=False)
        try:
            case.network.unet = wrapped
            losses(case).sum().backward()
            parts = [p.grad_sample.unflatten(0, (-1, n_draws)).mean(1) for p in inner.parameters()]
            norms = torch.stack([g.flatten(1).norm(dim=1) for g in parts]).norm(dim=0)
            factors = clip_factors(norms.double(), 1.0).float()
            for g in parts:
                torch.einsum("n,n...->...", factors, g)
        finally:
            _unwrapped(case, wrapped, inner)

    return run


def ghost(case: Case) -> Callable[[], None]:
    from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import (
        GradSampleModuleFastGradientClipping,
    )

    inner = case.network.unet

    def run() -> None:
        wrapped = GradSampleModuleFastGradientClipping(
            inner, loss_reduction="sum", batch_first=True, strict=False, max_grad_norm=1.0,
            use_ghost_clipping=True,
        )  # fmt: skip
        try:
            case.network.unet = wrapped
            found = losses(case)
            found.sum().backward(retain_graph=True)
            norms = wrapped.get_norm_sample()
            inner.zero_grad()
            wrapped.disable_hooks()
            ((1.0 / norms).clamp(max=1) * found).sum().backward()
        finally:
            _unwrapped(case, wrapped, inner)

    return run


def _unwrapped(case: Case, wrapped: torch.nn.Module, inner: torch.nn.Module) -> None:
    case.network.unet = inner
    wrapped.to_standard_module()  # type: ignore[operator]
    for parameter in inner.parameters():
        parameter.grad_sample = parameter.grad = None  # type: ignore[attr-defined]
