"""DP-SAD: mode ``sealed``, a private teacher, and a student distilled from it at no further cost;
and mode ``paper``, the published algorithm, which has no guarantee and is kept as a negative
control.

Liu, Wang, Ge: "Learning Differentially Private Diffusion Models via Stochastic Adversarial
Distillation", ECCV 2024, arXiv 2408.14738. The published algorithm trains the teacher without
protection and adds noise to the student's gradients. Every one of these gradients depends on the
teacher, so its bound does not hold. In mode ``sealed`` the teacher is private and the student
depends on nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from torch import Tensor, nn

from dpgen.configurations.dp_sad import DPSADSettings
from dpgen.data.private import PrivateDataset
from dpgen.generator.budget import asked_budget
from dpgen.generator.drawing import n_for_preview
from dpgen.generator.interface import PrivateGenerator
from dpgen.generator.sampler_settings import SamplerSettings
from dpgen.images.facts import PublicFacts
from dpgen.networks.denoiser import Denoiser
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.plan import Plan
from dpgen.privacy.statements.notice import Claim
from dpgen.published import dp_sad as published_dp_sad
from dpgen.runs.context import Hardware, Rehearsal, Workplace
from dpgen.stages import shared_steps, teacher
from dpgen.stages.rehearsal import rehearse
from dpgen.training.bootstrapping import bootstrap
from dpgen.training.distillation import Pairs, distil, draw_pairs
from dpgen.training.distillation_settings import BOOT
from samplers import DDIM, Annealed, Sampler


class DPSAD(PrivateGenerator):
    """A class-conditional few-step generator under (epsilon, delta)-DP."""

    id = "dp-sad"
    Settings = DPSADSettings
    unverified_modes = frozenset({"paper"})
    public_modes = frozenset({"sealed"})
    begun_on = staticmethod(teacher.begun_on)
    assist = staticmethod(shared_steps.assist)

    def __init__(
        self,
        *,
        budget: Budget | None = None,
        settings: DPSADSettings | None = None,
        epsilon: float | None = None,
        delta: float | None = None,
    ) -> None:
        self.budget = asked_budget(budget, epsilon, delta)
        self.settings = settings or DPSADSettings()

    def resolve(self, facts: PublicFacts) -> DPSADSettings:
        settings: DPSADSettings = self.settings.resolved(facts)
        if settings.sampler != SamplerSettings():
            settings.sampler.build()  # refuses an invalid sampler before anything is charged
        return settings

    def _promise(self, facts: PublicFacts) -> Plan | Claim:
        if (paper := self.resolve(facts).paper) is not None:
            return published_dp_sad.claim(paper, facts, self.budget)
        return self.settings.plan(facts, self.budget)

    def rehearse(self, facts: PublicFacts, hardware: Hardware) -> Rehearsal:
        s = self.settings
        return rehearse(
            s.teacher_for(facts), facts, hardware, self.default_sampler(),
            n_for_preview(facts), s.student,
        )  # fmt: skip

    def _learn(
        self, data: PrivateDataset, promise: Plan | Claim, work: Workplace
    ) -> dict[str, nn.Module]:
        s, facts = self.settings, data.facts
        if isinstance(promise, Claim):
            return {"model": published_dp_sad.train(s.paper, facts, data, promise, work)}
        network, others = teacher.train(s.teacher_for(facts), facts, data, promise, work)
        student = self._distil(network, work)
        return {"model": student, "teacher": network, **others}

    def _distil(self, network: Denoiser, work: Workplace) -> Denoiser:
        """Distils a released teacher into a student, without data."""
        s = self.settings.student
        if s.pairing == BOOT:
            train = partial(bootstrap, network)
        else:
            train = partial(distil, network, self._pairs(network, work))
        return train(
            s,
            generator=work.generator(3),
            checkpoints=work.checkpoints,
            accelerator=work.accelerator,
            show=work.show,
        )

    def _pairs(self, network: Denoiser, work: Workplace) -> Pairs:
        """Draws the images that a student learns from, once."""

        def drawn() -> Mapping[str, Tensor]:
            with work.accelerator.autocast():
                return draw_pairs(
                    network,
                    self.settings.student,
                    generator=work.generator(2),
                    device=work.accelerator.device,
                    show=work.show,
                )._asdict()

        return Pairs(**work.checkpoints.once("pairs", drawn))

    def default_sampler(self, network: str = "model") -> Sampler:
        student, own = self.settings.student, self.settings.own_sampler
        if network == "model" and own != SamplerSettings():
            return own.build()
        levels = student.path if network == "teacher" else student.levels
        return Annealed(levels, transport=DDIM(eta=0.0))
