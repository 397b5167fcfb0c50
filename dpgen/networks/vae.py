"""The variational autoencoder, whose decoder parametrises the manifold that images lie near.

Reference: Kingma, Welling (2014), "Auto-Encoding Variational Bayes", arXiv 1312.6114.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dpgen.networks.decoder import Decoder, DecoderConfig

__all__ = ["VAE", "VAEConfig"]

CHANNELS = 32, 64  # of the encoder's convolutions, each of which halves the sides


@dataclass(frozen=True)
class VAEConfig:
    """All numbers of an autoencoder.

    Args:
        shape: (C, H, W) of the images.
        n_latents: length of a code, the dimension of the manifold.
    """

    shape: tuple[int, int, int]
    n_latents: int = 20


class VAE(nn.Module):
    """Two convolutions to the mean and the log variance of a code, and a decoder back to pixels.

    Guarantees: no statistic across images: a code depends on its own image alone.

    Args:
        config: the numbers.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        channels, *sides = config.shape
        first, second = CHANNELS
        cells = math.prod(math.ceil(side / 4) for side in sides)
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, first, 3, 2, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(first, second, 3, 2, 1),
            nn.LeakyReLU(0.1),
            nn.Flatten(),
            nn.Linear(second * cells, 2 * config.n_latents),
        )
        self.decoder = Decoder(DecoderConfig(config.shape, 1, config.n_latents))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the mean and the log variance of the codes, (B, L) each, of images (B, C, H, W)
        in [-1, 1].
        """
        mean, log_variance = self.encoder(x).chunk(2, 1)
        return mean, log_variance

    def decode(self, codes: Tensor) -> Tensor:
        """Computes images (B, C, H, W) in (-1, 1) from codes (B, L)."""
        labels = torch.zeros(len(codes), dtype=torch.int64, device=codes.device)
        images: Tensor = self.decoder(codes, labels)
        return images
