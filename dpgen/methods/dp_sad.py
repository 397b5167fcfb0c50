"""DP-SAD, mode ``sealed``: a private teacher, then stochastic adversarial distillation into a few-step student, for free.

Liu, Wang, Ge: "Learning Differentially Private Diffusion Models via Stochastic Adversarial Distillation", ECCV 2024,
arXiv 2408.14738. The published flow trains the teacher without protection and noises the student's gradients; every one of those
gradients moves with the teacher, so that bound does not hold. Here the teacher is private and the student sees nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from dpgen.data.images import Images, PublicFacts
from dpgen.data.private import PrivateDataset
from dpgen.distillation import Distillation, distil
from dpgen.generator import PrivateGenerator, draw_blocks
from dpgen.networks.denoiser import Denoiser
from dpgen.privacy.accounting import Budget
from dpgen.privacy.plan import Plan
from dpgen.progress import progress_bar
from dpgen.stages import teacher
from dpgen.stages.teacher import TeacherSettings
from dpgen.workplace import Workplace
from samplers import DDIM, Annealed, Sampler, make_sampler


@dataclass(frozen=True)
class DPSADSettings:
    """Settings of DP-SAD.

    Args:
        mode: "sealed", the only one.
        teacher: the private stages.
        student: the distillation.
        teacher_sampling_steps: noise levels per teacher-made image (Heun: two evaluations each).
    """

    mode: str = "sealed"
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    student: Distillation = field(default_factory=Distillation)
    teacher_sampling_steps: int = 18

    def __post_init__(self) -> None:
        if self.mode != "sealed":
            raise ValueError(f"mode of dp-sad must be 'sealed', got {self.mode!r}")


class DPSAD(PrivateGenerator):
    """A class-conditional few-step generator under (epsilon, delta)-DP."""

    id = "dp-sad"
    Settings = DPSADSettings
    theorem = "A3 (post-processing of a DP teacher) on B1 (Poisson-subsampled Gaussian) with an un-sampled Gaussian release"

    def __init__(self, *, budget: Budget, settings: DPSADSettings | None = None) -> None:
        self.budget, self.settings = budget, settings or DPSADSettings()

    def resolve(self, facts: PublicFacts) -> DPSADSettings:
        s = self.settings
        return DPSADSettings(s.mode, teacher.resolve(s.teacher, facts), s.student, s.teacher_sampling_steps)

    def plan(self, facts: PublicFacts) -> Plan:
        return teacher.plan(self.resolve(facts).teacher, facts, self.budget)

    def _learn(self, data: PrivateDataset, plan: Plan, work: Workplace) -> dict[str, Denoiser]:
        network, _ = teacher.train(self.settings.teacher, data.facts, data, plan, work)
        student = self._distil(network, data.facts, work)
        return {"model": student, "teacher": network}

    def _distil(self, network: Denoiser, facts: PublicFacts, work: Workplace) -> Denoiser:
        """The stage without data: a released teacher in, a student out."""
        s = self.settings.student
        held = work.run.checkpoints.load("pool")
        if held is None:
            labels = torch.arange(s.pool_size) % facts.n_classes
            blocks = []
            with progress_bar("teacher's images", s.pool_size, show=work.show) as advance:
                for block in draw_blocks(network, labels, self.teacher_sampler(), work.seed, device=work.accelerator.device):
                    blocks.append(block)
                    for _ in range(len(block.labels)):
                        advance()
            pool = Images(torch.cat([b.pixels for b in blocks]), torch.cat([b.labels for b in blocks]))
            work.run.checkpoints.save("pool", pool._asdict())
        else:
            pool = Images(**held[0])
        return distil(
            network,
            pool,
            s,
            generator=work.generator(2),
            checkpoints=work.run.checkpoints,
            accelerator=work.accelerator,
            show=work.show,
        )

    def teacher_sampler(self) -> Sampler:
        return make_sampler("heun", n_steps=self.settings.teacher_sampling_steps, sigma_min=0.02, sigma_max=20.0)

    def default_sampler(self) -> Sampler:
        return Annealed(self.settings.student.levels, transport=DDIM(eta=0.0))
