r"""The private teacher: a diffusion model trained by DP-SGD with noise multiplicity.

Per record a score matching loss is averaged over J draws of noise level, noise and projection
*before* its gradient is clipped, so sensitivity does not depend on J, while the variance of the
clipped gradient falls with it. The label is dropped once per record and step.

    l(x, y; theta) = 1/J sum_j sigma_j^4 lambda(sigma_j) L(s(., y'), x, sigma_j, z_j, v_j) / (C H W)
    lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2,   ln sigma ~ N(P_mean, P_std^2)

with s = (D - x) / sigma^2 and L a loss of `dpgen.score_matching`. For L = `denoising` this is the
EDM loss, lambda ||D - x||^2 / (C H W); the others share its expected gradient.

Reference: Dockhorn, Cao, Vahdat, Kreis (2023), "Differentially Private Diffusion Models", arXiv
2210.09929, section 3; Karras et al. (2022), arXiv 2206.00364, equation 8 for the loss. Privacy:
theorem B1, DP-SGD on a loss of one record.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.func import functional_call

from dpgen import score_matching
from dpgen.checkpoint import Checkpoints, TrainingState
from dpgen.data.private import PrivateDataset
from dpgen.networks.denoiser import Denoiser, DenoiserConfig, loss_weight
from dpgen.networks.ema import EMA
from dpgen.networks.per_record import require_per_record
from dpgen.privacy.clipping import LossFn, Parameters
from dpgen.privacy.mechanisms import DrawFn, NoisySGD
from dpgen.progress import progress_bar
from samplers import score_from_denoised

LABEL = "teacher"


@dataclass(frozen=True)
class NoiseLevels:
    """The law of training noise levels, ln sigma ~ N(mean, std^2), and a record's draws of it.

    Source: EDM's P_mean and P_std.
    """

    mean: float = -0.4
    std: float = 1.3
    n_draws: int = 8
    label_drop: float = 0.1

    def __post_init__(self) -> None:
        if self.n_draws < 1:
            raise ValueError(f"n_draws must be at least 1, got {self.n_draws}")
        if not self.std > 0:
            raise ValueError(f"std must be greater than 0, got {self.std}")
        if not 0 <= self.label_drop < 1:
            raise ValueError(f"label_drop must lie in [0, 1), got {self.label_drop}")

    def draw_fn(self, shape: tuple[int, int, int], loss: str = "denoising") -> DrawFn:
        """One record's random numbers for one step; shapes do not depend on the record.

        Args:
            shape: (C, H, W) of the records.
            loss: a key of `dpgen.score_matching.LOSSES`; some take a projection for every draw.
        """
        projects = score_matching.find(loss).projects

        def draw(rng: np.random.Generator) -> dict[str, np.ndarray]:
            log_sigma = self.mean + self.std * rng.standard_normal(self.n_draws, dtype=np.float32)
            drawn = {
                "sigma": np.exp(log_sigma).astype(np.float32),
                "noise": rng.standard_normal((self.n_draws, *shape), dtype=np.float32),
                "drop": np.asarray(rng.random() < self.label_drop),
            }
            if projects:
                drawn["projection"] = score_matching.signs(rng, (self.n_draws, *shape))
            return drawn

        return draw


def record_loss(denoiser: Denoiser, accelerator: Accelerator, loss: str = "denoising") -> LossFn:
    """The loss of one record as a function of the parameters: what NoisyStep differentiates.

    Args:
        loss: a key of `dpgen.score_matching.LOSSES`.
    """
    chosen = score_matching.find(loss)

    def record(
        parameters: Parameters, pixels: Tensor, label: Tensor, draws: dict[str, Tensor]
    ) -> Tensor:
        label = torch.where(draws["drop"], denoiser.null_label, label)

        def score_fn(x: Tensor, sigma: Tensor) -> Tensor:
            with accelerator.autocast():
                denoised = functional_call(denoiser, parameters, (x, sigma, label.expand(len(x))))
            return score_from_denoised(denoised, x, sigma)

        sigma, noise = draws["sigma"], draws["noise"]
        weight = score_weight(sigma, denoiser.config)
        return (weight * chosen(score_fn, pixels, sigma, noise, draws.get("projection"))).mean()

    return record


def score_weight(sigma: Tensor, config: DenoiserConfig) -> Tensor:
    """``sigma^4 lambda(sigma) / (C H W)``: a loss of scores, weighted with it, starts near one at
    every noise level.
    """
    return sigma**4 * loss_weight(sigma, config.sigma_data) / math.prod(config.shape)


def pretrain(
    denoiser: Denoiser,
    sample_fn: Callable[[int, torch.Generator], tuple[Tensor, Tensor]],
    levels: NoiseLevels,
    *,
    n_steps: int,
    batch_size: int,
    learning_rate: float,
    ema_decay: float,
    generator: torch.Generator,
    accelerator: Accelerator,
    show: bool,
) -> None:
    """Fits the denoiser, in place, to samples of a released model: post-processing.

    Args:
        sample_fn: (n, generator) -> pixels (n, C, H, W), labels (n,), on the CPU.
    """
    device = accelerator.device
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, n_steps, eta_min=learning_rate / 20
    )
    ema = EMA(denoiser, ema_decay)
    with progress_bar("pre-train on release", n_steps, show=show) as advance:
        for _ in range(n_steps):
            pixels, labels = sample_fn(batch_size, generator)
            log_sigma = levels.mean + levels.std * torch.randn(batch_size, generator=generator)
            noise = torch.randn(pixels.shape, generator=generator)
            drop = torch.rand(batch_size, generator=generator) < levels.label_drop
            labels = torch.where(drop, denoiser.null_label, labels)
            pixels, labels, sigma, noise = (
                t.to(device) for t in (pixels, labels, log_sigma.exp(), noise)
            )
            with accelerator.autocast():
                denoised = denoiser(pixels + sigma[:, None, None, None] * noise, sigma, labels)
            weight = loss_weight(sigma, denoiser.config.sigma_data)
            loss = (weight * (denoised.float() - pixels).square().flatten(1).mean(1)).mean()
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            schedule.step()
            ema.update(denoiser)
            advance()
    denoiser.load_state_dict(ema.module.state_dict())


def train_teacher(
    denoiser: Denoiser,
    data: PrivateDataset,
    mechanism: NoisySGD,
    levels: NoiseLevels,
    *,
    loss: str,
    learning_rate: float,
    ema_decay: float,
    micro_batch: int,
    checkpoints: Checkpoints,
    accelerator: Accelerator,
    show: bool,
) -> None:
    """DP-SGD, in place; ends with the averaged weights.

    Everything after the noisy gradient (Adam, averaging) is post-processing. Resumes from its
    checkpoint; a stage that is finished is read back and touches nothing.
    """
    require_per_record(denoiser)
    parameters = dict(denoiser.named_parameters())
    optimizer = torch.optim.Adam(parameters.values(), lr=learning_rate)
    ema = EMA(denoiser, ema_decay, warm_up=True)
    state = TrainingState({"model": denoiser, "ema": ema}, {"adam": optimizer})
    held = checkpoints.load(LABEL)
    start = 0
    if held is not None:
        tensors, numbers = held
        start = int(numbers["step"])
        state.load(tensors)
    if start < mechanism.n_steps:
        loss_fn = record_loss(denoiser, accelerator, loss)
        draw_fn = levels.draw_fn(denoiser.config.shape, loss)
        steps = data.steps(
            mechanism, label=LABEL, start=start, micro_batch=micro_batch, device=accelerator.device
        )
        with progress_bar("teacher (private)", mechanism.n_steps, show=show, done=start) as advance:
            for step in steps:
                released = {name: p.detach() for name, p in parameters.items()}
                for name, gradient in step.gradient(loss_fn, draw_fn, released).items():
                    parameters[name].grad = gradient
                optimizer.step()
                ema.update(denoiser)
                done = step.index + 1
                if checkpoints.due() or done == mechanism.n_steps:
                    checkpoints.save(LABEL, state.tensors(), step=done)
                advance()
    data.finish(LABEL, mechanism)
    denoiser.load_state_dict(ema.module.state_dict())
