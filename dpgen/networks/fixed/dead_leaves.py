"""Procedural pictures, without any data: coloured shapes that cover each other on a smooth ground.

They share with photographs what all of those have in common: flat or shaded regions with sharp
edges, a spectrum that falls with frequency, colours of which brightness varies most.

Reference: Lee, Mumford, Huang (2001), "Occlusion Models for Natural Images", the dead-leaves model;
Baradad et al. (2021), "Learning to See by Looking at Noise", arXiv 2106.05963, for learning from
such pictures.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from dpgen.networks.fixed.colour_cosines import opponent_colours

N_SHAPES = 24  # at most in one picture
# Standard deviations of brightness and of two differences of colours.
COLOURS = (1.3, 0.3, 0.15)
SHADES = (0.5, 0.08, 0.05)
TEXTURE = (1.0, 0.2, 0.1)


def dead_leaves(n: int, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Draws pictures (n, C, H, W) in [-1, 1], in grey with one channel, on the CPU.

    Args:
        shape: (C, H, W); more than three channels have grey from the fourth on.
        generator: CPU generator of all randomness.
    """
    draw = _Draw(n, shape, generator)
    base = draw.normal(3) * draw.per_colour(COLOURS) * 0.6

    def fill(*, textured: bool) -> Tensor:
        colour = base * 0.6 + draw.normal(3) * draw.per_colour(COLOURS) * 0.75
        return colour + draw.shade() + (draw.texture() if textured else 0)

    x = fill(textured=True)
    n_shapes = (draw.uniform() * N_SHAPES).long() + 1
    for k in range(N_SHAPES):
        inside = draw.mask(large=k < 3) * (k < n_shapes)
        x = x + (fill(textured=k % 3 == 0) - x) * inside
    x = x * (0.25 * draw.normal()).exp()
    blur = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = (blur[:, None] * blur).expand(3, 1, 3, 3)
    soft = functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
    x = x + draw.uniform() * (soft - x)
    return torch.tanh(0.95 * _in_channels(x, shape[0]))


def _in_channels(x: Tensor, channels: int) -> Tensor:
    """Turns brightness and two differences of colours (n, 3, H, W) into (n, channels, H, W)."""
    rows = opponent_colours(torch.float32).T.contiguous()
    if channels != 3:
        rows = torch.tensor([[1.0, 0.0, 0.0]]).expand(channels, 3) / math.sqrt(3)
    return torch.einsum("oc,nchw->nohw", rows, x)


class _Draw:
    """Random parts of n pictures."""

    def __init__(self, n: int, shape: tuple[int, int, int], generator: torch.Generator) -> None:
        self.n, self.generator = n, generator
        self.height, self.width = shape[1:]
        self.down = torch.linspace(-1, 1, self.height)[:, None]
        self.across = torch.linspace(-1, 1, self.width)
        down = torch.fft.fftfreq(self.height, 1 / self.height)[:, None]
        across = torch.fft.rfftfreq(self.width, 1 / self.width)
        self.radius = (down.square() + across.square()).sqrt()

    def uniform(self) -> Tensor:
        return torch.rand(self.n, 1, 1, 1, generator=self.generator)

    def normal(self, channels: int = 1) -> Tensor:
        return torch.randn(self.n, channels, 1, 1, generator=self.generator)

    def per_colour(self, sizes: tuple[float, ...]) -> Tensor:
        return torch.tensor(sizes)[:, None, None]

    def field(self, channels: int, power: float) -> Tensor:
        """Draws fields (n, channels, H, W) of deviation 1 whose amplitudes fall as
        frequency**-power.
        """
        fall = 1 / (self.radius + 0.7) ** power
        fall[0, 0] = 0
        size = self.n, channels, self.height, self.width
        spectrum = torch.fft.rfft2(torch.randn(size, generator=self.generator)) * fall
        x = torch.fft.irfft2(spectrum, s=(self.height, self.width))
        return x / x.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-6)

    def shade(self) -> Tensor:
        slope = self.normal() * self.across + self.normal() * self.down
        return slope * self.per_colour(SHADES)

    def texture(self) -> Tensor:
        return self.field(3, 1.2) * self.per_colour(TEXTURE) * self.uniform().square() * 0.5

    def mask(self, *, large: bool) -> Tensor:
        """Draws soft superellipses (n, 1, H, W) with wavy edges, 1 inside."""
        size = 0.06 + 0.9 * self.uniform() ** 2.5
        size = size.clamp_min(0.3) if large else size
        across, down = self.across - self.normal() * 0.5, self.down - self.normal() * 0.5
        angle, stretch = self.uniform() * math.pi, (0.5 * self.normal()).exp()
        u = (across * angle.cos() + down * angle.sin()) * stretch / size
        v = (down * angle.cos() - across * angle.sin()) / size
        power = 1.2 + 6 * self.uniform().square()
        distance = (u.abs() ** power + v.abs() ** power) ** (1 / power)
        waves = self.field(1, 2.0) * 0.12 * self.uniform()
        sharpness = 0.6 * max(self.height, self.width)  # an edge is about a pixel wide
        return torch.sigmoid((1 - distance + waves) * size * sharpness)
