"""A running average of weights.

The average of weights that were released under a guarantee is a function of them alone, and so is
post-processing: it costs no budget, needs no record and may be kept, restarted or thrown away.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["EMA"]


class EMA:
    """Follows a module: ``average <- decay * average + (1 - decay) * weights`` at each update.

    Floating-point parameters and buffers are averaged, everything else (counters, indices) is
    copied. To average the results of noisy gradients is post-processing and costs no budget.

    Args:
        module: the module to follow; copied, never changed. Its weights are the first average.
        decay: weight of the old average, in [0, 1); 0 copies the module at every update.
        warm_up: decays by ``min(decay, (1 + n) / (10 + n))`` after n updates, so that a short run
            forgets the initial weights too (the rule of TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, module: nn.Module, decay: float = 0.999, *, warm_up: bool = False) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        self.decay = decay
        self.warm_up = warm_up
        self.n_updates = 0
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Moves one step towards ``module``, which has tensors like those of the first module."""
        decay = self.decay
        if self.warm_up:
            decay = min(decay, (1 + self.n_updates) / (10 + self.n_updates))
        current = module.state_dict()
        for name, average in self.module.state_dict().items():
            if average.is_floating_point():
                average.lerp_(current[name].to(average), 1.0 - decay)
            else:
                average.copy_(current[name])
        self.n_updates += 1

    def state_dict(self) -> dict[str, Tensor]:
        """Returns the state for a resume, as tensors: the averaged weights and ``n_updates``."""
        return {**self.module.state_dict(), "n_updates": torch.tensor(self.n_updates)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continues from the ``state_dict`` of an average of the same module."""
        if "n_updates" not in state:
            raise ValueError("state must come from EMA.state_dict(), got one without 'n_updates'")
        weights = {name: value for name, value in state.items() if name != "n_updates"}
        self.module.load_state_dict(weights)
        self.n_updates = int(state["n_updates"])
