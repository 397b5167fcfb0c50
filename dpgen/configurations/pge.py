"""Settings of PGE and its plan."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from dpgen.generator.sampler_settings import SamplerSettings
from dpgen.images.facts import PublicFacts
from dpgen.networks.denoiser_config import PRESETS
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.plan import Plan
from dpgen.privacy.statements.notice import unpriced
from dpgen.published import pge_settings as published_pge_settings
from dpgen.published.pge_settings import PaperSettings
from dpgen.stages import sketch_plan, teacher_plan
from dpgen.stages.sketch_settings import SketchSettings
from dpgen.stages.teacher_settings import Teacher, TeacherSettings
from dpgen.training.refit_settings import RefitSettings

MODES = ("dpsgd", "sketch", "paper")
# Defaults by preset, which take precedence over those of `TeacherSettings`; tiny was chosen on a
# fifth of the 1,437 training digits. Of the losses plain denoising has the smallest variance, so
# clipping removes least from it.
OWN: dict[str, Any] = {"loss": "denoising", "residual": "fed", "n_draws": 16}
OWN_BY_PRESET: dict[str, dict[str, Any]] = {"tiny": {"learning_rate": 3e-3}}

STARTS: dict[str, dict[str, Any]] = {
    "noise": {"name": "hamiltonian", "n_steps": 24, "sigma_min": 0.1},
    # On two levels the dynamics alone cannot remove the noise, so DDIM does.
    "proposals": {
        "name": "ddim-hamiltonian", "n_steps": 2, "sigma_min": 0.05, "sigma_max": 0.3,
    },
}  # fmt: skip
# From noise, 72 evaluations of the score on 24 levels, chosen with the teacher's defaults: two long
# leapfrog steps on more levels work better than three shorter ones on fewer.
LEAPS: dict[str, Any] = {"n_leapfrog": 2, "step_size": 0.7}
# Pictures of a spectrum need little of a score: one that hardly leaves the Gaussian it begins with
# serves other samplers, and takes a tenth of the time.
SMOOTHING = RefitSettings(n_samples=6000, n_steps=60)
# From the level of a decoder's images, 0.3, they would lose their edges: on 10,000 records of
# CIFAR-10 at epsilon 10 the Frechet distance is 31, 17 from 0.06, 14 from 0.03 and as drawn; on
# X-rays 16 from 0.06, 9 from 0.02, 6 as drawn.
SMOOTHED: dict[str, Any] = {"sigma_min": 0.005, "sigma_max": 0.02}


@dataclass(frozen=True)
class PGESettings:
    """Settings of PGE.

    Args:
        mode: "dpsgd", "sketch" or "paper" (as published, without a verified guarantee).
        teacher: the private stages of mode dpsgd.
        sampler: the default sampler: Hamiltonian from noise, and in mode sketch a short
            "ddim-hamiltonian" from drawn images, unless another is named.
        sketch: the private stages of mode sketch, in that mode only.
        score: the network that learns from images drawn by the sketch, in that mode only.
        paper: the published algorithm, in mode paper only.
    """

    mode: str = "dpsgd"
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    sampler: SamplerSettings = field(default_factory=SamplerSettings)
    sketch: SketchSettings | None = None
    score: RefitSettings | None = None
    paper: PaperSettings | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode of pge must be one of {', '.join(MODES)}, got {self.mode!r}")
        for name, mode in (("sketch", "sketch"), ("score", "sketch"), ("paper", "paper")):
            if self.mode != mode and getattr(self, name) is not None:
                raise ValueError(
                    f"{name}.* are settings of mode {mode}: set mode={mode}, or drop them"
                )
        if self.mode != "dpsgd" and self.teacher != TeacherSettings():
            raise ValueError(f"teacher.* are settings of mode dpsgd, mode {self.mode} has its own")

    def resolved(self, facts: PublicFacts) -> PGESettings:
        """Returns the settings with every None that needs a value filled in for these facts."""
        sketch = SketchSettings.chosen(self.sketch, facts) if self.mode == "sketch" else None
        spectral = sketch is not None and sketch.spectrum is not None
        sampler = sampler_for(self.sampler, self.mode, facts.shape, spectral=spectral)
        s = replace(self, sampler=sampler)
        if s.mode == "paper":
            paper = published_pge_settings.resolve(s.paper or PaperSettings(), facts)
            return replace(s, paper=paper)
        if sketch is not None:
            score = s.score or (SMOOTHING if spectral else RefitSettings())
            score.network(facts)  # refuses an unsupported shape before anything is charged
            return replace(s, sketch=sketch, score=score)
        return replace(s, teacher=s.teacher_for(facts))

    def teacher_for(self, facts: PublicFacts) -> Teacher:
        """Returns the private stages of mode dpsgd for these facts, complete."""
        own = {name: OWN | OWN_BY_PRESET.get(name, {}) for name in PRESETS}
        return self.teacher.resolved(facts, own)

    def plan(self, facts: PublicFacts, budget: Budget) -> Plan:
        """Plans everything that `fit` will charge. Raises UnverifiedClaim in mode paper."""
        if self.mode == "paper":
            raise unpriced("pge/paper")
        resolved = self.resolved(facts)
        if resolved.sketch is not None:
            return sketch_plan.plan(resolved.sketch, facts, budget)
        return teacher_plan.plan(resolved.teacher_for(facts), facts, budget)


def sampler_for(
    given: SamplerSettings, mode: str, shape: tuple[int, int, int], *, spectral: bool = False
) -> SamplerSettings:
    """Returns the default sampler of a mode for a public shape, complete.

    Args:
        spectral: whether proposals are pictures of a spectrum.

    From noise the first level is 3/8 of the longer side: the direction of largest variance in
    images of n pixels, their brightness, has a standard deviation that grows with sqrt(n).
    """
    start = given.start or ("proposals" if mode == "sketch" else "noise")
    if start not in STARTS or (start == "proposals" and mode != "sketch"):
        allowed = " or ".join(STARTS) if mode == "sketch" else "noise"
        raise ValueError(f"start of mode {mode} must be {allowed}, got {start!r}")
    defaults = dict(STARTS[start])
    if start == "noise":
        defaults["sigma_max"] = 3 * max(shape[1:]) / 8
        defaults |= LEAPS if given.name in (None, "hamiltonian") else {}
    elif given.name in (None, "ddim-hamiltonian"):
        defaults["n_leapfrog"] = 1
    if start == "proposals" and spectral:
        defaults |= SMOOTHED
    return given.filled(start=start, **defaults)
