r"""Random Fourier features: a public map under which inner products are Gaussian kernels.

    phi(x) = (cos(w_j . x), sin(w_j . x))_j / sqrt(m),   w_j ~ N(0, I / b_j^2)
    phi(x) . phi(x')  ->  mean over bandwidths b of exp(-||x - x'||^2 / (2 b^2))

Every phi(x) has norm exactly 1, whatever x: a record's contribution needs no clip.

Reference: Rahimi and Recht (2007), "Random Features for Large-Scale Kernel Machines".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def check_bandwidths(name: str, values: tuple[float, ...]) -> None:
    """Raises ValueError unless there are bandwidths, all of them positive numbers."""
    if not values or any(not 0 < b < math.inf for b in values):
        raise ValueError(f"{name} must be positive numbers, got {values}")


@dataclass(frozen=True)
class FourierFeatures:
    """The map phi of flat vectors, with frequencies from a public seed.

    Args:
        n_inputs: D, the length of a vector.
        n_frequencies: m; there are 2 m features.
        bandwidths: b in units of sqrt(D), each for an equal share of the frequencies.
        seed: seed of the frequencies.
    """

    n_inputs: int
    n_frequencies: int
    bandwidths: tuple[float, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_inputs", "n_frequencies"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        check_bandwidths("bandwidths", self.bandwidths)

    @property
    def n_features(self) -> int:
        return 2 * self.n_frequencies

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "name": "FourierFeatures",
            "n_inputs": self.n_inputs,
            "n_frequencies": self.n_frequencies,
            "bandwidths": list(self.bandwidths),
            "seed": self.seed,
        }

    @cached_property
    def frequencies(self) -> Tensor:
        """Returns the w_j as rows, (m, D), float64."""
        import torch

        generator = torch.Generator().manual_seed(self.seed)
        w = torch.randn(self.n_frequencies, self.n_inputs, generator=generator, dtype=torch.float64)
        index = self.bands[: self.n_frequencies]
        b = torch.tensor(self.bandwidths, dtype=torch.float64)[index] * math.sqrt(self.n_inputs)
        return w / b[:, None]

    @property
    def bands(self) -> Tensor:
        """Returns which of the bandwidths each feature is of, (2 m,), int64."""
        import torch

        return (torch.arange(self.n_frequencies) % len(self.bandwidths)).repeat(2)

    @cached_property
    def _placed(self) -> dict[tuple[torch.device, torch.dtype], Tensor]:
        """Caches the frequencies by device and type, as a fit reads them thousands of times."""
        return {}

    def __call__(self, x: Tensor) -> Tensor:
        """Computes phi of vectors, (B, ...) -> (B, 2 m); float64 for float64 input, else float32.
        """
        import torch

        # Never in bfloat16, in which an angle above 8 is off by up to a thirty-second.
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        where = (x.device, x.dtype)
        if where not in self._placed:
            self._placed[where] = self.frequencies.to(x)
        with torch.autocast(x.device.type, enabled=False):
            angles = x.flatten(1) @ self._placed[where].T
        return torch.cat([angles.cos(), angles.sin()], 1) / math.sqrt(self.n_frequencies)
