"""Noise levels, weights and pre-training of a denoiser."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from dpgen.networks.denoiser import Denoiser, DenoiserConfig, loss_weight
from dpgen.networks.ema import EMA
from dpgen.training.loop import training_steps


@dataclass(frozen=True)
class NoiseLevels:
    """The distribution of training noise levels, ln sigma ~ N(mean, std^2), and a record's draws.

    mean, std: mean and standard deviation of ln sigma; std is greater than 0.
    n_draws: noise levels per record and step, at least 1.
    label_drop: probability with which a label is replaced by the null class, in [0, 1).

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


def score_weight(sigma: Tensor, config: DenoiserConfig) -> Tensor:
    """Computes ``sigma^4 lambda(sigma) / (C H W)``, the weight with which a score matching loss
    starts near one at every noise level.
    """
    return sigma**4 * loss_weight(sigma, config.sigma_data) / math.prod(config.shape)


def denoising_loss(
    denoiser: Denoiser,
    pixels: Tensor,
    labels: Tensor,
    levels: NoiseLevels,
    generator: torch.Generator,
    accelerator: Accelerator,
) -> Tensor:
    """Computes the mean weighted denoising loss (EDM) of images, a scalar.

    Args:
        pixels: (B, C, H, W), on the CPU.
        labels: (B,), each dropped with probability ``levels.label_drop``.
        levels: the distribution of noise levels; one level is drawn for each image.
        generator: CPU generator of levels, noise and dropped labels.
    """
    batch_size = len(labels)
    log_sigma = levels.mean + levels.std * torch.randn(batch_size, generator=generator)
    noise = torch.randn(pixels.shape, generator=generator)
    drop = torch.rand(batch_size, generator=generator) < levels.label_drop
    labels = torch.where(drop, denoiser.null_label, labels)
    pixels, labels, sigma, noise = (
        t.to(accelerator.device) for t in (pixels, labels, log_sigma.exp(), noise)
    )
    with accelerator.autocast():
        denoised = denoiser(pixels + sigma[:, None, None, None] * noise, sigma, labels)
    weight = loss_weight(sigma, denoiser.config.sigma_data)
    return (weight * (denoised.float() - pixels).square().flatten(1).mean(1)).mean()


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
    """Fits the denoiser, in place, to samples of a released model, which is post-processing.

    Args:
        sample_fn: (n, generator) -> pixels (n, C, H, W), labels (n,), on the CPU.
    """
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, n_steps, eta_min=learning_rate / 20
    )
    ema = EMA(denoiser, ema_decay)
    for _ in training_steps("pre-train on release", n_steps, denoiser, ema, show=show):
        pixels, labels = sample_fn(batch_size, generator)
        loss = denoising_loss(denoiser, pixels, labels, levels, generator, accelerator)
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
        schedule.step()
