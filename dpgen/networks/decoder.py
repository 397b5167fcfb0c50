"""The decoder, which maps latents and labels to images in one evaluation and is fitted to a sketch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Decoder", "DecoderConfig"]

GROUPS = 4  # groups of every GroupNorm
COARSEST = 8  # the most pixels of the longer side at the first convolution


@dataclass(frozen=True)
class DecoderConfig:
    """All numbers of a decoder.

    Args:
        shape: (C, H, W) of the images.
        n_classes: number of classes, at least 1.
        n_latents: length of a latent.
        width: units of the first layers.
        channels: channels at the coarsest level, at the next and so on; the last number is used for
            all finer levels. The finest level has pixels only.
    """

    shape: tuple[int, int, int]
    n_classes: int
    n_latents: int = 20
    width: int = 256
    channels: tuple[int, ...] = (32, 24, 16)

    def __post_init__(self) -> None:
        for name in ("n_classes", "n_latents", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.channels or any(c < 1 or c % GROUPS for c in self.channels):
            raise ValueError(f"channels must be multiples of {GROUPS}, got {self.channels}")
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"shape must be (C, H, W), all positive, got {self.shape}")

    @property
    def n_doublings(self) -> int:
        return max(1, math.ceil(math.log2(max(self.shape[1:]) / COARSEST)))


class Decoder(nn.Module):
    """Dense layers, then transposed convolutions.

    Guarantees: no statistic across images (GroupNorm only): an image depends on its own latent and
    label alone.

    Args:
        config: the numbers.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        n, width = config.n_doublings, config.width
        coarse = [math.ceil(side / 2**n) for side in config.shape[1:]]
        widths = [config.channels[min(k, len(config.channels) - 1)] for k in range(n)]
        self.dense = nn.Sequential(
            nn.Linear(config.n_latents + config.n_classes, width),
            nn.LeakyReLU(0.1),
            nn.Linear(width, width),
            nn.LeakyReLU(0.1),
            nn.Linear(width, widths[0] * math.prod(coarse)),
            nn.LeakyReLU(0.1),
            nn.Unflatten(1, (widths[0], *coarse)),
        )
        layers: list[nn.Module] = []
        for wide, narrow in pairwise(widths):
            layers += [
                nn.ConvTranspose2d(wide, narrow, 4, 2, 1),
                nn.GroupNorm(GROUPS, narrow),
                nn.LeakyReLU(0.1),
            ]
        # Overlapping kernels directly to the pixels: features at full size take twice as long and
        # fit no better (measured).
        last = nn.ConvTranspose2d(widths[-1], config.shape[0], 4, 2, 1)
        self.convolutions = nn.Sequential(*layers, last)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Computes images (B, C, H, W) in (-1, 1) from latents (B, n_latents) and labels (B,)."""
        _, height, width = self.config.shape
        y = functional.one_hot(labels, self.config.n_classes).to(z)
        x = self.convolutions(self.dense(torch.cat([z, 2 * y], 1)))
        return torch.tanh(x[:, :, :height, :width] - 1)

    @torch.no_grad()
    def draw(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Draws images (N, C, H, W) of the classes ``labels``, (N,), on the CPU."""
        z = torch.randn(len(labels), self.config.n_latents, generator=generator)
        parts = zip(z.split(1000), labels.split(1000), strict=True)
        return torch.cat([self(a, b) for a, b in parts])
