r"""Perceptual features without public data: hidden layers of a classifier of released samples.

    phi(x) = ( F_1((h_1(x) - m_1) / s_1), F_2((h_2(x) - m_2) / s_2) ) / sqrt(2)

with hidden layers h of a small network, their means m and standard deviations s on samples, and
random Fourier features F of a bandwidth in proportion to the samples' distances. The norm is
exactly 1. Nothing here depends on a record except through releases: network, m and s are results of
earlier ones.

Reference: Harder, Jalali Asadabadi, Sutherland, Park (2023), "Pre-trained Perceptual Features
Improve Differentially Private Image Generation", arXiv 2205.12900, where the network is public.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from dpgen.networks.fixed.fourier import FourierFeatures

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dpgen.networks.perceptual import PerceptualNetwork

N_GLOBAL = 128  # units of the network's hidden layer before the classes


class Scales(NamedTuple):
    """The scales of one hidden layer on released samples: mean (D,), spread (D,) and the median
    distance (), scalar.
    """

    mean: Tensor
    spread: Tensor
    distance: Tensor


@dataclass(frozen=True)
class HiddenFeatures:
    """The map phi of hidden layers; `learned` gives it network and scales.

    Args:
        width: width of the network.
        n_frequencies: frequencies of each layer's Fourier features.
        bandwidths: bandwidths in units of the median distance between samples.
        seed: seed of the frequencies.
        network, scales: results of earlier releases, not settings.
    """

    width: int
    n_frequencies: int
    bandwidths: tuple[float, ...]
    seed: int
    network: PerceptualNetwork | None = field(default=None, compare=False, repr=False)
    scales: tuple[Scales, ...] = field(default=(), compare=False, repr=False)

    @property
    def n_features(self) -> int:
        return 2 * 2 * self.n_frequencies

    @property
    def bands(self) -> Tensor:
        """Returns which bandwidth of which layer each feature is of, (n_features,), int64."""
        import torch

        local, wide = (fourier.bands for fourier in self._maps)
        return torch.cat([local, len(self.bandwidths) + wide])

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "name": "HiddenFeatures",
            "width": self.width,
            "n_frequencies": self.n_frequencies,
            "bandwidths": list(self.bandwidths),
            "seed": self.seed,
        }

    @cached_property
    def _maps(self) -> tuple[FourierFeatures, FourierFeatures]:
        lengths = (32 * self.width, N_GLOBAL)
        return tuple(  # type: ignore[return-value]
            FourierFeatures(d, self.n_frequencies, self.bandwidths, self.seed + k)
            for k, d in enumerate(lengths)
        )

    def learned(self, network: PerceptualNetwork, samples: Tensor) -> Self:
        """Makes the features of a network trained on samples, with the scales of at most 2,000 of
        them.
        """
        import torch

        scales = []
        with torch.no_grad():
            for h in network.layers(samples[:2000]):
                spread = h.std(0)
                spread = spread + 0.1 * spread.mean() + 1e-6
                g = (h - h.mean(0)) / spread
                half = len(g) // 2
                distance = (g[:half] - g[half : 2 * half]).norm(dim=1).median().clamp_min(1e-6)
                scales.append(Scales(h.mean(0), spread, distance))
        return self.restored(network, tuple(scales))

    def restored(self, network: PerceptualNetwork, scales: tuple[Scales, ...]) -> Self:
        return replace(self, network=network.eval().requires_grad_(False), scales=scales)

    def to(self, device: torch.device) -> Self:
        """Returns the same map on a device, with a copy of the network."""
        if self.network is None:
            raise RuntimeError("HiddenFeatures needs a network trained on samples: call learned")
        scales = tuple(Scales(*(t.to(device) for t in of_layer)) for of_layer in self.scales)
        return self.restored(copy.deepcopy(self.network).to(device), scales)

    def tensors(self) -> dict[str, Tensor]:
        """Returns everything but the settings, by name, for a checkpoint."""
        assert self.network is not None
        found = {f"network.{name}": t for name, t in self.network.state_dict().items()}
        for k, scales in enumerate(self.scales):
            found |= {f"scales.{k}.{name}": t for name, t in scales._asdict().items()}
        return found

    def from_tensors(self, network: PerceptualNetwork, tensors: Mapping[str, Tensor]) -> Self:
        """Restores the result of `tensors`, in an untrained network of the same configuration."""
        network.load_state_dict(
            {k.removeprefix("network."): t for k, t in tensors.items() if k.startswith("network.")}
        )
        scales = tuple(
            Scales(*(tensors[f"scales.{k}.{name}"] for name in Scales._fields)) for k in range(2)
        )
        return self.restored(network, scales)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Computes the features of images, (B, C, H, W) -> (B, n_features), float32."""
        import torch

        if self.network is None:
            raise RuntimeError("HiddenFeatures needs a network trained on samples: call learned")
        parts = []
        for h, scales, fourier in zip(
            self.network.layers(pixels.float()), self.scales, self._maps, strict=True
        ):
            unit = math.sqrt(fourier.n_inputs) / scales.distance
            parts.append(fourier((h - scales.mean) / scales.spread * unit))
        return torch.cat(parts, 1) / math.sqrt(len(parts))


def placed(
    features: Callable[[Tensor], Tensor], device: torch.device
) -> Callable[[Tensor], Tensor]:
    """Moves a feature map to the device; fixed maps follow the device of the pixels."""
    return features.to(device) if isinstance(features, HiddenFeatures) else features
