"""How images are drawn from a fitted generator, whatever its method."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dpgen.generator.sampler_settings import SamplerSettings

if TYPE_CHECKING:
    import torch

    from samplers import Sampler


@dataclass(frozen=True)
class Draw:
    """How images are drawn; their number, labels and seed are separate arguments.

    Args:
        sampler: from `samplers`, or the settings of one; None takes the method's own. A network
            that draws its images itself takes none, and no guidance.
        guidance: weight of classifier-free guidance.
        labeller_guidance: weight of classifier guidance by the private labeller, if the generator
            has one.
        network: name of a released network: "model", or "teacher" for dp-sad.
        device: device on which images are computed; "auto" is a GPU where there is one.
        precision: "no" (float32) or "bf16", of the network that a sampler follows alone. A network
            that draws its images itself takes float32.
    """

    sampler: Sampler | SamplerSettings | None = None
    guidance: float = 0.0
    labeller_guidance: float = 0.0
    network: str = "model"
    device: torch.device | str = "cpu"
    precision: str = "no"

    def __post_init__(self) -> None:
        for name in ("guidance", "labeller_guidance"):
            weight = getattr(self, name)
            if not math.isfinite(weight):
                raise ValueError(f"{name} must be a finite number, got {weight}")
        if self.precision not in ("no", "bf16"):
            raise ValueError(f"precision must be no or bf16, got {self.precision!r}")

    def built(self) -> Sampler | None:
        """Returns the sampler; None for the method's own."""
        given = self.sampler
        return given.build() if isinstance(given, SamplerSettings) else given
