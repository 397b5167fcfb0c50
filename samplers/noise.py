"""Random numbers from a generator, for a state of any dtype on any device."""

from __future__ import annotations

import torch
from torch import Tensor


def unit_noise(x: Tensor, *, generator: torch.Generator) -> Tensor:
    """Draws standard normal noise with the shape and device of ``x``, at least float32.

    It is drawn on the generator's own device and then moved, so that a CPU generator gives the same
    noise on every device of ``x``.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    noise = torch.randn(x.shape, generator=generator, device=generator.device, dtype=dtype)
    return noise.to(x.device)


def uniform(x: Tensor, *, generator: torch.Generator) -> Tensor:
    """Draws numbers uniform in [0, 1), one for each item of ``x``, (B,), as `unit_noise` does."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return torch.rand(len(x), generator=generator, device=generator.device, dtype=dtype).to(
        x.device
    )
