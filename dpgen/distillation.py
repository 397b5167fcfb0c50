r"""Stochastic adversarial distillation: a few-step student from a released teacher. No record is near.

`distil` receives a released network and images that this network made. It has no handle on private
data, so what it does is post-processing of the teacher (theorem A3 of the design): any number of
steps, any choice among students, costs nothing.

At each step ONE random noise level r of the student's own ladder stands for the whole chain:

    x_r = x_0 + sigma_r z,   x_t = D_teacher(x_r, sigma_r, y),   x_s = D_student(x_r, sigma_r, y)
    L   = MSE(x_t, x_s) + MSE(x_0, x_s) + lambda L_adv

The discriminator sees teacher and student side by side in random order, C(x_t, x_s) or C(x_s, x_t),
and learns which it was; the student is trained to make it wrong.

Reference: Liu, Wang, Ge (2024), "Learning Differentially Private Diffusion Models via Stochastic
Adversarial Distillation", arXiv 2408.14738; x_0 here is teacher-made where the paper has a private
image, which is what makes the stage free.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from dpgen.checkpoint import Checkpoints, TrainingState
from dpgen.data.images import Images
from dpgen.networks.denoiser import Denoiser
from dpgen.networks.discriminator import Discriminator
from dpgen.networks.ema import EMA
from dpgen.progress import progress_bar
from samplers.levels import Karras

LABEL = "student"


@dataclass(frozen=True)
class Distillation:
    """How the student is made.

    Args:
        n_steps: network evaluations per image of the student: 1, 2, 4 or 8.
        n_iterations: training steps.
        batch_size: images a step.
        learning_rate: of student and discriminator (Adam).
        adversarial_weight: lambda, at least 0; 0 leaves the discriminator out.
        pool_size: teacher-made images to learn from.
        ema_decay: of the student's averaged weights.
        sigma_min, sigma_max: ends of the student's ladder of noise levels.
    """

    n_steps: int = 4
    n_iterations: int = 1000
    batch_size: int = 128
    learning_rate: float = 3e-4
    adversarial_weight: float = 0.05
    pool_size: int = 8192
    ema_decay: float = 0.99
    sigma_min: float = 0.2
    sigma_max: float = 5.0

    def __post_init__(self) -> None:
        if self.n_steps not in (1, 2, 4, 8):
            raise ValueError(f"n_steps of the student must be 1, 2, 4 or 8, got {self.n_steps}")
        for name in ("n_iterations", "batch_size", "pool_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be greater than 0, got {self.learning_rate}")
        if not self.adversarial_weight >= 0:
            raise ValueError(
                f"adversarial_weight must be at least 0, got {self.adversarial_weight}"
            )
        self.levels  # noqa: B018  a ladder that cannot be built must not be configured

    @property
    def levels(self) -> Karras:
        """The student's ladder, for training and for sampling."""
        return Karras(self.n_steps, sigma_min=self.sigma_min, sigma_max=self.sigma_max)


def distil(
    teacher: Denoiser,
    pool: Images,
    settings: Distillation,
    *,
    generator: torch.Generator,
    checkpoints: Checkpoints,
    accelerator: Accelerator,
    show: bool,
) -> Denoiser:
    """The student. Resumes from its checkpoint to the very weights of an uninterrupted run.

    Args:
        teacher: released weights; left as it is.
        pool: images that the teacher made, on the CPU.
        generator: CPU generator of all randomness of this stage.
    """
    device = accelerator.device
    teacher = teacher.to(device).eval().requires_grad_(False)
    student = copy.deepcopy(teacher).train().requires_grad_(True)
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        discriminator = Discriminator(teacher.config.shape, teacher.n_classes).to(device)
    ema = EMA(student, settings.ema_decay, warm_up=True)
    student_adam = torch.optim.Adam(student.parameters(), lr=settings.learning_rate, betas=(0.5, 0.99))
    judge_adam = torch.optim.Adam(
        discriminator.parameters(), lr=settings.learning_rate, betas=(0.5, 0.99)
    )
    state = TrainingState(
        {"student": student, "discriminator": discriminator, "ema": ema},
        {"student": student_adam, "discriminator": judge_adam},
        {"distillation": generator},
    )
    start = 0
    held = checkpoints.load(LABEL)
    if held is not None:
        tensors, numbers = held
        start = int(numbers["step"])
        state.load(tensors)
    ladder = settings.levels()[:-1].float()
    with progress_bar("student (distil)", settings.n_iterations, show=show, done=start) as advance:
        for step in range(start, settings.n_iterations):
            rows = torch.randint(len(pool.labels), (settings.batch_size,), generator=generator)
            rung = torch.randint(len(ladder), (settings.batch_size,), generator=generator)
            noise = torch.randn(pool.pixels[rows].shape, generator=generator)
            swap = torch.rand(settings.batch_size, generator=generator) < 0.5
            x0, y, sigma, noise, swap = (
                t.to(device) for t in (pool.pixels[rows], pool.labels[rows], ladder[rung], noise, swap)
            )
            x_r = x0 + sigma[:, None, None, None] * noise
            with accelerator.autocast():
                with torch.no_grad():
                    x_t = teacher(x_r, sigma, y).float()
                x_s = student(x_r, sigma, y).float()
            loss = mse_loss(x_s, x_t) + mse_loss(x_s, x0)
            if settings.adversarial_weight > 0:
                with accelerator.autocast():
                    judged = discriminator(side_by_side(x_t, x_s.detach(), swap), sigma, y).float()
                judge_loss = binary_cross_entropy_with_logits(judged, (~swap).float())
                judge_adam.zero_grad()
                accelerator.backward(judge_loss)
                judge_adam.step()
                with accelerator.autocast():
                    judged = discriminator(side_by_side(x_t, x_s, swap), sigma, y).float()
                fooled = binary_cross_entropy_with_logits(judged, swap.float())
                loss = loss + settings.adversarial_weight * fooled
            student_adam.zero_grad()
            accelerator.backward(loss)
            student_adam.step()
            ema.update(student)
            if checkpoints.due() or step + 1 == settings.n_iterations:
                checkpoints.save(LABEL, state.tensors(), step=step + 1)
            advance()
    student.load_state_dict(ema.module.state_dict())
    return student.eval()


def side_by_side(teacher: Tensor, student: Tensor, swap: Tensor) -> Tensor:
    """C(x_t, x_s) along the channels, (B, 2 C, H, W); the other way round where ``swap`` (B,) is True."""
    swap = swap[:, None, None, None]
    first, second = torch.where(swap, student, teacher), torch.where(swap, teacher, student)
    return torch.cat([first, second], dim=1)
