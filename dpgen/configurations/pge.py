"""Settings of PGE and its plan."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from samplers import Sampler

MODES = ("dpsgd", "sketch", "paper")
# By preset, before those of `TeacherSettings`; tiny was chosen on a fifth of the 1,437 training
# digits. Of the losses plain denoising has the least variance, so the clip takes the least from it.
OWN: dict[str, Any] = {"loss": "denoising", "residual": "fed", "n_draws": 16}
OWN_BY_PRESET: dict[str, dict[str, Any]] = {"tiny": {"learning_rate": 3e-3}}

STARTS: dict[str, dict[str, Any]] = {
    "noise": {"name": "hamiltonian", "n_steps": 24, "sigma_min": 0.1},
    # Two levels leave no time to lose noise by dynamics alone: DDIM takes it down.
    "proposals": {
        "name": "ddim-hamiltonian", "n_steps": 2, "sigma_min": 0.05, "sigma_max": 0.3,
    },
}  # fmt: skip
# From noise, 72 evaluations of the score on 24 levels. Chosen with the teacher's defaults: two long
# leapfrog steps on more levels go further than three shorter ones on fewer.
LEAPS: dict[str, Any] = {"n_leapfrog": 2, "step_size": 0.7}


@dataclass(frozen=True)
class SamplerSettings:
    """How samples are drawn: a sampler's name and its numbers. Costs no privacy, may be changed.

    Args:
        name: a key of `samplers.SAMPLERS`; ``None``: "hamiltonian", and from proposals
            "ddim-hamiltonian".
        start: "noise", or in mode sketch "proposals": the decoder's images, which the sampler
            refines from its first noise level down.
        n_steps: number of positive noise levels.
        sigma_min, sigma_max: the last of them and the first.
        others: options of that sampler; ``None`` takes its default, and one that it does not have
            is refused.
    """

    name: str | None = None
    start: str | None = None
    n_steps: int | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    rho: float | None = None
    step_size: float | None = None
    n_leapfrog: int | None = None
    n_kernel_steps: int | None = None
    persistence: float | None = None
    friction: float | None = None
    eta: float | None = None
    s_churn: float | None = None
    s_min: float | None = None
    s_max: float | None = None
    s_noise: float | None = None

    def resolved(self, mode: str, shape: tuple[int, int, int]) -> SamplerSettings:
        """With the ``None`` that need a value filled in for a mode and a public shape.

        From noise the first level is 3/8 of the longer side: the widest direction of images of n
        pixels, their brightness, has a standard deviation that grows with sqrt(n).
        """
        start = self.start or ("proposals" if mode == "sketch" else "noise")
        if start not in STARTS or (start == "proposals" and mode != "sketch"):
            allowed = " or ".join(STARTS) if mode == "sketch" else "noise"
            raise ValueError(f"start of mode {mode} must be {allowed}, got {start!r}")
        defaults = dict(STARTS[start])
        if start == "noise":
            defaults["sigma_max"] = 3 * max(shape[1:]) / 8
            defaults |= LEAPS if self.name in (None, "hamiltonian") else {}
        elif self.name in (None, "ddim-hamiltonian"):
            defaults["n_leapfrog"] = 1
        chosen = {k: v for k, v in defaults.items() if getattr(self, k) is None}
        return replace(self, start=start, **chosen)

    def build(self) -> Sampler:
        """Raises ValueError when the sampler has no such name, option or range."""
        from samplers import make_sampler

        given = {f.name: getattr(self, f.name) for f in fields(self)}
        name, _ = given.pop("name") or "hamiltonian", given.pop("start")
        return make_sampler(name, **{k: v for k, v in given.items() if v is not None})


@dataclass(frozen=True)
class PGESettings:
    """Settings of PGE.

    Args:
        mode: "dpsgd", "sketch" or "paper".
        teacher: the private stages of mode dpsgd.
        sampler: the default sampler.
        sketch: the private stages of mode sketch, in that mode only.
        score: the network fitted to the sketch, in that mode only.
        paper: the published flow, in mode paper only.
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
                    f"{name}.* are settings of mode {mode}: set mode={mode}, or leave them out"
                )
        if self.mode != "dpsgd" and self.teacher != TeacherSettings():
            raise ValueError(f"teacher.* are settings of mode dpsgd, mode {self.mode} has its own")

    def resolved(self, facts: PublicFacts) -> PGESettings:
        """With every ``None`` that needs a value filled in for these facts."""
        s = replace(self, sampler=self.sampler.resolved(self.mode, facts.shape))
        s.sampler.build()
        if s.mode == "paper":
            paper = published_pge_settings.resolve(s.paper or PaperSettings(), facts)
            return replace(s, paper=paper)
        if s.mode == "sketch":
            score = s.score or RefitSettings()
            score.network(facts)  # a shape that it cannot take, before anything is paid
            return replace(s, sketch=s.sketch or SketchSettings(), score=score)
        return replace(s, teacher=s.teacher_for(facts))

    def teacher_for(self, facts: PublicFacts) -> Teacher:
        """The private stages of mode dpsgd for these facts, with nothing left open."""
        own = {name: OWN | OWN_BY_PRESET.get(name, {}) for name in PRESETS}
        return self.teacher.resolved(facts, own)

    def plan(self, facts: PublicFacts, budget: Budget) -> Plan:
        """Everything that `fit` will charge. Raises UnverifiedClaim in mode paper."""
        if self.mode == "paper":
            raise unpriced("pge/paper")
        resolved = self.resolved(facts)
        if resolved.sketch is not None:
            return sketch_plan.plan(resolved.sketch, facts, budget)
        return teacher_plan.plan(resolved.teacher_for(facts), facts, budget)
