"""Pictures with the released spectrum of a class: what is drawn when nothing is trained.

    x = low(m_y + F_y z) + a_y low(p) + b_y high(p),    z ~ N(0, I), p a procedural picture

low(c) is the image of low-frequency coefficients c, low(p) and high(p) the parts of p inside and
outside of them. So brightness and colours at every place, and how these vary together, are those of
the class as far as the releases tell them; what varies beside that is made up, in the strength of
the class, and has the edges and textures of pictures where a Gaussian would have noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dpgen.networks.fixed.colour_cosines import ColourCosines
from dpgen.networks.fixed.dead_leaves import dead_leaves

__all__ = ["SpectralConfig", "SpectralPictures"]

PART = 250  # pictures made at once
N_MEASURED = 500  # procedural pictures whose energies are measured, always the same ones


@dataclass(frozen=True)
class SpectralConfig:
    """All numbers of spectral pictures.

    Args:
        shape: (C, H, W) of the images.
        n_classes: number of classes, at least 1.
        bands: cosines with u + v < bands are released, the others made up.
        own_spread: whether each class has a covariance of its own.
    """

    shape: tuple[int, int, int]
    n_classes: int
    bands: int
    own_spread: bool

    def __post_init__(self) -> None:
        for name in ("n_classes", "bands"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"shape must be (C, H, W), all positive, got {self.shape}")

    @property
    def basis(self) -> ColourCosines:
        return ColourCosines(self.shape, self.bands)


class SpectralPictures(nn.Module):
    """Images of wanted classes, each from its own random numbers; nothing in it is trained.

    Args:
        config: the numbers.
    """

    means: Tensor
    factors: Tensor
    inside: Tensor
    outside: Tensor

    def __init__(self, config: SpectralConfig) -> None:
        super().__init__()
        self.config, self.basis = config, config.basis
        m, n_spreads = self.basis.n_coefficients, config.n_classes if config.own_spread else 1
        self.register_buffer("means", torch.zeros(config.n_classes, m))
        self.register_buffer("factors", torch.zeros(n_spreads, m, m))
        self.register_buffer("inside", torch.zeros(config.n_classes))
        self.register_buffer("outside", torch.zeros(config.n_classes))

    def set(self, means: Tensor, factors: Tensor, inside: Tensor, outside: Tensor) -> None:
        """Takes released moments.

        Args:
            means: of the coefficients, (K, m).
            factors: F with F F' what is known of the covariance of the coefficients, (K or 1, m,
                m).
            inside: energy of the coefficients beside that, (K,), for the procedural pictures.
            outside: energy of what the coefficients leave out, (K,), for these, too.
        """
        pictures = dead_leaves(N_MEASURED, self.config.shape, torch.Generator().manual_seed(0))
        energy = pictures.double().square().sum() / N_MEASURED
        low = self.basis.analyse(pictures).square().sum() / N_MEASURED
        # Where the basis is complete there is no outside.
        high = (energy - low).clamp_min(1e-6 * energy)
        self.means.copy_(means)
        self.factors.copy_(factors)
        self.inside.copy_((inside / low).sqrt())
        self.outside.copy_((outside / high).sqrt())

    @torch.no_grad()
    def draw(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Draws images (N, C, H, W) in [-1, 1] of the classes ``labels``, (N,), on the CPU."""
        return torch.cat([self._draw(part, generator) for part in labels.split(PART)])

    def _draw(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        z = torch.randn(len(labels), self.means.shape[1], generator=generator)
        coefficients = self.means[labels].double()
        for k in labels.unique().tolist():
            rows = labels == k
            factor = self.factors[k if self.config.own_spread else 0]
            coefficients[rows] += (z[rows] @ factor.T).double()
        ground = dead_leaves(len(labels), self.config.shape, generator)
        low = self.basis.analyse(ground)
        high = ground.double() - self.basis.synthesise(low)
        coefficients += self.inside[labels, None].double() * low
        strength = self.outside[labels, None, None, None].double()
        pixels = self.basis.synthesise(coefficients) + strength * high
        return pixels.float().clamp(-1, 1)
