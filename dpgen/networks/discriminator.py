"""The discriminator of adversarial distillation, which finds the teacher's half of a pair.

Its input is two images concatenated along the channels, with the noise level and the label that
both were made for.

Reference: Liu, Wang, Ge (2024), "Learning Differentially Private Diffusion Models via Stochastic
Adversarial Distillation", arXiv 2408.14738 (the pair); Miyato and Koyama (2018), "cGANs with
Projection Discriminator", equation 3 (the label).
"""

from __future__ import annotations

import math

import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Discriminator"]


class Discriminator(nn.Module):
    """Gives a logit for each pair of images, trained to tell in which order they are concatenated.

    Guarantees: no statistic across records (GroupNorm only). It takes any sides from 4 pixels up,
    including odd ones.

    Args:
        shape: (C, H, W) of one image; a pair has 2 C channels.
        n_classes: number of classes, at least 1. Labels may also be ``n_classes``, the null class.
        width: channels at full resolution, a multiple of 8; doubled by the first two halvings.
    """

    def __init__(self, shape: tuple[int, int, int], n_classes: int, *, width: int = 32) -> None:
        super().__init__()
        if min(shape) < 1 or min(shape[1:]) < 4:
            raise ValueError(f"shape must be (C, H, W) with sides of at least 4, got {shape}")
        if n_classes < 1:
            raise ValueError(f"n_classes must be at least 1 (1 means no classes), got {n_classes}")
        if width < 8 or width % 8:
            raise ValueError(f"width must be a positive multiple of 8, got {width}")
        self.shape = shape
        n_halvings = max(1, round(math.log2(max(shape[1:]) / 4)))
        widths = [width * min(2**k, 4) for k in range(n_halvings + 1)]
        self.noise_embedding = _NoiseEmbedding(4 * width)
        self.stem = nn.Conv2d(2 * shape[0], width, 3, padding=1)
        self.blocks = nn.ModuleList(
            _Halving(narrow, wide, 4 * width)
            for narrow, wide in zip(widths, widths[1:], strict=False)
        )
        self.label_embedding = nn.Embedding(n_classes + 1, widths[-1])
        self.head = nn.Linear(widths[-1], 1)

    def forward(self, pairs: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        """Computes logits, (B,).

        Args:
            pairs: two images one after the other along the channels, (B, 2 C, H, W).
            sigma: noise level that both were made for, positive, (B,).
            labels: int64 in [0, n_classes], (B,).
        """
        channels, height, width = self.shape
        if pairs.ndim != 4 or tuple(pairs.shape[1:]) != (2 * channels, height, width):
            raise ValueError(
                f"pairs must have shape (B, {2 * channels}, {height}, {width}), "
                f"got {tuple(pairs.shape)}"
            )
        if sigma.shape != pairs.shape[:1] or labels.shape != pairs.shape[:1]:
            raise ValueError(
                f"sigma and labels must have shape ({pairs.shape[0]},), "
                f"got {tuple(sigma.shape)} and {tuple(labels.shape)}"
            )
        noise = self.noise_embedding(sigma)
        hidden = self.stem(pairs)
        for block in self.blocks:
            hidden = block(hidden, noise)
        features = reduce(functional.silu(hidden), "b c h w -> b c", "mean")
        return self.head(features)[:, 0] + (self.label_embedding(labels) * features).mean(dim=1)


class _NoiseEmbedding(nn.Module):
    """Cosines and sines of ln(sigma) / 4 at 8 octaves, then a small MLP; (B,) to (B, width)."""

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", 2.0 ** torch.arange(-2, 6), persistent=False)
        self.mlp = nn.Sequential(nn.Linear(16, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, sigma: Tensor) -> Tensor:
        phases = rearrange(sigma.log() / 4, "b -> b 1") * self.frequencies
        return self.mlp(torch.cat([phases.cos(), phases.sin()], dim=1))


class _Halving(nn.Module):
    """Halves the sides; the noise level scales and shifts the normalised channels."""

    def __init__(self, narrow: int, wide: int, noise_width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, narrow)
        self.modulation = nn.Linear(noise_width, 2 * narrow)
        self.conv = nn.Conv2d(narrow, wide, 3, stride=2, padding=1)
        self.refine = nn.Sequential(
            nn.GroupNorm(8, wide), nn.SiLU(), nn.Conv2d(wide, wide, 3, padding=1)
        )

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        scale, shift = rearrange(self.modulation(noise), "b (two c) -> two b c 1 1", two=2)
        x = self.conv(functional.silu(self.norm(x) * (1 + scale) + shift))
        return x + self.refine(x)
