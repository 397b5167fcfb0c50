r"""Features of an encoder with random weights: a public function of one image, of norm one.

    phi(x) = F(sqrt(d) h(x) / ||h(x)||),      F random Fourier features, h in R^d

h is a small convolutional network whose weights are drawn from a public seed and stay as they are:
convolutions of 3x3, normalised image by image, halved until about 4x4 cells are left. Two images
are close under phi if the network sees the same edges and corners at about the same places.

Reference: Saxe et al. (2011), "On Random Weights and Unsupervised Feature Learning"; the networks
are those of dataset condensation (Zhao, Bilen, 2023, arXiv 2110.04181), smaller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dpgen.networks.fixed.fourier import FourierFeatures, check_bandwidths

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CELLS = 4  # per side, over which the last layer is averaged
FLAT = 1e-2  # variance below which a map counts as flat: it is not stretched to variance one
SEEDS = 1_000_003  # between the seed of the weights and those of the frequencies


@dataclass(frozen=True)
class RandomEncoder:
    """The map phi of images of one shape.

    Args:
        shape: (C, H, W).
        n_frequencies: m; there are 2 m features.
        bandwidths: of Gaussian kernels between encoded images of length one, each for an equal
            share of the frequencies.
        width: channels of the first layer, doubled at each halving.
        seed: seed of weights and frequencies.
    """

    shape: tuple[int, int, int]
    n_frequencies: int
    bandwidths: tuple[float, ...]
    width: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_frequencies", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        check_bandwidths("bandwidths", self.bandwidths)

    @property
    def n_features(self) -> int:
        return 2 * self.n_frequencies

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "name": "RandomEncoder",
            "shape": list(self.shape),
            "n_frequencies": self.n_frequencies,
            "bandwidths": list(self.bandwidths),
            "width": self.width,
            "seed": self.seed,
        }

    @property
    def bands(self) -> Tensor:
        """Returns which of the bandwidths each feature is of, (2 m,), int64."""
        return self._fourier.bands

    @property
    def n_layers(self) -> int:
        """Returns the number of convolutions: until the shorter side has about `CELLS` pixels."""
        return max(1, int(math.log2(max(min(self.shape[1:]) / CELLS, 1))))

    @cached_property
    def _fourier(self) -> FourierFeatures:
        n_inputs = self.width * 2 ** (self.n_layers - 1) * CELLS**2
        return FourierFeatures(n_inputs, self.n_frequencies, self.bandwidths, SEEDS + self.seed)

    @cached_property
    def _weights(self) -> tuple[Tensor, ...]:
        import torch

        generator = torch.Generator().manual_seed(self.seed)
        found, n_inputs = [], self.shape[0]
        for k in range(self.n_layers):
            n = self.width * 2**k
            weights = torch.randn(n, n_inputs, 3, 3, generator=generator)
            found.append(weights / math.sqrt(9 * n_inputs))
            n_inputs = n
        return tuple(found)

    @cached_property
    def _placed(self) -> dict[torch.device, tuple[Tensor, ...]]:
        """Caches the weights by device, as a fit reads them thousands of times."""
        return {}

    def __call__(self, pixels: Tensor) -> Tensor:
        """Computes the features of images, (B, C, H, W) -> (B, 2 m), float32."""
        import torch
        from torch.nn import functional

        x = pixels.float()
        if x.device not in self._placed:
            self._placed[x.device] = tuple(w.to(x.device) for w in self._weights)
        for weights in self._placed[x.device]:
            x = functional.conv2d(x, weights, padding=1)
            variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
            x = functional.relu((x - mean) / (variance + FLAT).sqrt())
            x = functional.avg_pool2d(x, 2) if min(x.shape[2:]) > 1 else x
        h = functional.adaptive_avg_pool2d(x, CELLS).flatten(1)
        h = h / h.norm(dim=1, keepdim=True).clamp_min(1e-6)
        return self._fourier(h * math.sqrt(self._fourier.n_inputs))
