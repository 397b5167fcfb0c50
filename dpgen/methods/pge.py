"""PGE: mode ``dpsgd``, a private score, sampled by Hamiltonian dynamics; mode ``sketch``, a score
fitted to a few released embeddings, minutes on a CPU; and mode ``paper``, the published flow, which
has no guarantee and is kept as a negative control.

Liu, Wang, Guo, Li, Zhuang, Wang, Ge: "Private Gradient Estimation is Useful for Generative
Modeling", ACM MM 2024, arXiv 2305.10662. The published method randomises the projection vectors of
sliced score matching; they do not depend on the records, so randomising them protects nothing. In
mode ``dpsgd`` the gradients of the same losses are clipped and noised, record by record; the
residual enhancement stands on a Gaussian score that is released first; Hamiltonian sampling reads
no record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, cast

from torch import nn

from dpgen.data.images import PublicFacts
from dpgen.data.private import PrivateDataset
from dpgen.generator import PrivateGenerator
from dpgen.networks.denoiser_config import PRESETS
from dpgen.networks.proposer import Proposer
from dpgen.privacy.accounting import Budget
from dpgen.privacy.notice import Claim
from dpgen.privacy.plan import Plan
from dpgen.stages import published_pge, sketch, teacher
from dpgen.stages.published_pge import PaperSettings
from dpgen.stages.refit import RefitSettings, refit
from dpgen.stages.rehearsal import rehearse, rehearse_sketch
from dpgen.stages.sketch import SketchSettings
from dpgen.stages.teacher import TeacherSettings
from dpgen.workplace import Hardware, Rehearsal, Workplace
from samplers import Sampler, make_sampler

MODES = ("dpsgd", "sketch", "paper")
# By preset, before those of `TeacherSettings`; tiny was chosen on a fifth of the 1,437 training
# digits. Of the losses plain denoising has the least variance, so the clip takes the least from it.
OWN: dict[str, Any] = {"loss": "denoising", "residual": "fed", "n_draws": 16}
DEFAULTS = {name: OWN for name in PRESETS} | {"tiny": OWN | {"learning_rate": 3e-3}}

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


class PGE(PrivateGenerator):
    """A class-conditional score under (epsilon, delta)-DP, and a sampler that follows it."""

    id = "pge"
    Settings = PGESettings
    unverified_modes = frozenset({"paper"})

    def __init__(self, *, budget: Budget, settings: PGESettings | None = None) -> None:
        self.budget, self.settings = budget, settings or PGESettings()

    def resolve(self, facts: PublicFacts) -> PGESettings:
        s = self.settings
        s = replace(s, sampler=s.sampler.resolved(s.mode, facts.shape))
        s.sampler.build()
        if s.mode == "paper":
            return replace(s, paper=published_pge.resolve(s.paper or PaperSettings(), facts))
        if s.mode == "sketch":
            score = s.score or RefitSettings()
            score.network(facts)  # a shape that it cannot take, before anything is paid
            return replace(s, sketch=s.sketch or SketchSettings(), score=score)
        return replace(s, teacher=teacher.resolve(s.teacher, facts, DEFAULTS))

    def plan(self, facts: PublicFacts) -> Plan:
        self._require_certified()
        resolved = self.resolve(facts)
        if resolved.sketch is not None:
            return sketch.plan(resolved.sketch, facts, self.budget)
        return teacher.plan(resolved.teacher, facts, self.budget)

    def claim(self, facts: PublicFacts) -> Claim:
        if self.certified:
            return super().claim(facts)
        paper = self.resolve(facts).paper
        assert paper is not None
        return published_pge.claim(paper, facts, self.budget)

    def rehearse(self, facts: PublicFacts, hardware: Hardware) -> Rehearsal:
        s = self.resolve(facts)
        if s.sketch is not None and s.score is not None:
            return rehearse_sketch(s.sketch, s.score, facts, hardware)
        return rehearse(s.teacher, facts, hardware)

    def _learn(self, data: PrivateDataset, plan: Plan, work: Workplace) -> Mapping[str, nn.Module]:
        s, facts = self.settings, data.facts
        if s.mode == "sketch":
            proposer = sketch.run(s.sketch, facts, data, plan, work)
            return {"model": refit(proposer, s.score, facts, work), "proposals": proposer}
        network, others = teacher.train(s.teacher, facts, data, plan, work)
        return {"model": network, **others}

    @property
    def proposer(self) -> Proposer | None:
        """The sketch's decoder, in mode sketch unless the sampler's start is noise."""
        if self.settings.sampler.start != "proposals":
            return None
        return cast(Proposer, self.networks["proposals"])

    def _learn_unverified(
        self, data: PrivateDataset, claim: Claim, work: Workplace
    ) -> Mapping[str, nn.Module]:
        return {"model": published_pge.train(self.settings.paper, data.facts, data, claim, work)}

    def default_sampler(self, network: str = "model") -> Sampler:
        return self.settings.sampler.build()
