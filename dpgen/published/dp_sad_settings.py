"""The settings of DP-SAD as published."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dpgen.images.facts import PublicFacts
from dpgen.published.settings import check_positive, preset_for

if TYPE_CHECKING:
    from torch import Tensor

INPUTS = ("real", "noise")


@dataclass(frozen=True)
class PaperSettings:
    """Settings of the published algorithm.

    Args:
        student_input: "real", as published (the student denoises private images), or "noise" (it
            denoises images of its own, which do not depend on data).
        preset: size of both networks: quick, tiny, small or base; unless given, the one for
            the shape.
        teacher_steps: training steps of the unprotected teacher.
        n_steps: training steps of the student (T).
        batch: inputs of the student per step (B).
        clip_norm: largest norm of the gradient by one output of the student (C).
        learning_rate: learning rate of every network.
        ema_decay: decay of the averaged weights.
        adversarial_weight: weight of the adversarial loss (lambda), at least 0; 0 leaves the
            discriminator out.
        n_levels: number of noise levels; each step of the student draws one of them.
        sigma_min: lowest of these noise levels.
        sigma_max: highest of these noise levels.
        sampling_steps: number of noise levels of the default sampler.
    """

    student_input: str = "real"
    preset: str | None = None
    teacher_steps: int = 500
    n_steps: int = 500
    batch: int = 64
    clip_norm: float = 0.1
    learning_rate: float = 5e-4
    ema_decay: float = 0.99
    adversarial_weight: float = 1.0
    n_levels: int = 500
    sigma_min: float = 0.02
    sigma_max: float = 20.0
    sampling_steps: int = 18

    def __post_init__(self) -> None:
        if self.student_input not in INPUTS:
            raise ValueError(f"student_input must be real or noise, got {self.student_input!r}")
        check_positive(
            self,
            ("teacher_steps", "n_steps", "batch", "sampling_steps"),
            ("clip_norm", "learning_rate"),
        )
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")
        if not 0 <= self.adversarial_weight < math.inf:
            raise ValueError(
                f"adversarial_weight must be at least 0, got {self.adversarial_weight}"
            )
        self.ladder  # noqa: B018  a ladder that cannot be built must not be configured

    @property
    def ladder(self) -> Tensor:
        """Returns the noise levels of r, all positive."""
        from samplers import Karras

        levels = Karras(self.n_levels, sigma_min=self.sigma_min, sigma_max=self.sigma_max)
        return levels()[:-1].float()


def resolve(settings: PaperSettings, facts: PublicFacts) -> PaperSettings:
    if not settings.batch <= facts.n_records:
        raise ValueError(
            f"paper.batch must lie in [1, n_records = {facts.n_records}], got {settings.batch}"
        )
    return replace(settings, preset=preset_for(settings.preset, facts))
