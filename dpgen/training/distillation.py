r"""Stochastic adversarial distillation: a few-step student from a released teacher, no data.

`distil` receives a released network and images that this network made. It has no access to private
data, so it is post-processing of the teacher (theorem A3): any number of steps, and any choice
among students, costs no privacy.

At each step ONE random noise level r of the student's own ladder represents the whole chain. The
student computes x_s = D_student(x_r, sigma_r, y), for one of two kinds of input:

    paired  x_r = x_0 + (sigma_r / sigma_0) (sigma_0 z - x_0), where z is the noise from which the
            teacher made x_0: the straight line that a perfect student follows down its ladder. The
            teacher's answer there is the end of its own long path, x_t = x_0
    fresh   x_r = x_0 + sigma_r z with a new z, x_t = D_teacher(x_r, sigma_r, y), as in the paper

    L = w(sigma_r) (MSE(x_t, x_s) + MSE(x_0, x_s)) + lambda L_adv    (counted once if x_t = x_0)

The discriminator sees teacher and student side by side in random order, C(x_t, x_s) or C(x_s, x_t),
and learns which it was; the student is trained to make it wrong. With its own noise x_0 is a
function of x_r, so a student of one step keeps the teacher's variety, where with fresh noise it can
only learn a mean of many x_0. From two steps on, fresh noise stays closer to the teacher (digits at
epsilon 1, one split within the training records, four steps: 91 % fresh, 85 to 88 % paired).

Reference: Liu, Wang, Ge (2024), "Learning Differentially Private Diffusion Models via Stochastic
Adversarial Distillation", arXiv 2408.14738; x_0 here is teacher-made where the paper has a private
image, which is what makes the stage free. Pairs: Luhman and Luhman (2021), arXiv 2101.02388;
straight lines between them: Liu, Gong, Liu (2022), "Flow Straight and Fast", arXiv 2209.03003.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from dpgen.networks.denoiser import Denoiser, loss_weight
from dpgen.networks.discriminator import Discriminator
from dpgen.networks.ema import EMA
from dpgen.progress import progress_bar
from dpgen.runs.checkpoint import Checkpoints, TrainingState
from dpgen.training.distillation_settings import LABEL, Distillation
from dpgen.training.loop import Kept, decay_rate, training_steps
from samplers import DDIM, Annealed


class Pairs(NamedTuple):
    """Noise, and the images that the teacher made from it.

    noise: (M, C, H, W), unit normal; images: (M, C, H, W), in [-1, 1]; labels: (M,).
    """

    noise: Tensor
    images: Tensor
    labels: Tensor


def draw_pairs(
    teacher: Denoiser,
    settings: Distillation,
    *,
    generator: torch.Generator,
    device: torch.device,
    show: bool,
) -> Pairs:
    """Draws the teacher's images from fresh noise along its long path (DDIM), for all classes in
    turn.
    """
    teacher = teacher.to(device).eval()
    labels = torch.arange(settings.pool_size) % teacher.n_classes
    noise = torch.randn(len(labels), *teacher.config.shape, generator=generator)
    sampler, images = Annealed(settings.path, DDIM()), []
    with progress_bar("teacher's images", settings.pool_size, show=show) as advance:
        for z, y in zip(noise.split(1024), labels.split(1024), strict=True):
            score_fn = teacher.score_fn(y.to(device))
            images.append(sampler(score_fn, z.to(device), generator=generator).clamp(-1, 1).cpu())
            for _ in y:
                advance()
    return Pairs(noise, torch.cat(images), labels)


def distil(
    teacher: Denoiser,
    pool: Pairs,
    settings: Distillation,
    *,
    generator: torch.Generator,
    checkpoints: Checkpoints,
    accelerator: Accelerator,
    show: bool,
) -> Denoiser:
    """Trains the student. A resumed run ends with exactly the weights of an uninterrupted one.

    Args:
        teacher: released network; it is not changed.
        pool: the result of `draw_pairs`, on the CPU.
        generator: CPU generator of all randomness of this stage.
    """
    device = accelerator.device
    teacher = teacher.to(device).eval().requires_grad_(False)
    student = copy.deepcopy(teacher).train().requires_grad_(True)
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        discriminator = Discriminator(teacher.config.shape, teacher.n_classes).to(device)
    ema = EMA(student, settings.ema_decay, warm_up=True)
    student_adam = torch.optim.Adam(
        student.parameters(), lr=settings.learning_rate, betas=(0.5, 0.99)
    )
    discriminator_adam = torch.optim.Adam(
        discriminator.parameters(), lr=settings.learning_rate, betas=(0.5, 0.99)
    )
    state = TrainingState(
        {"student": student, "discriminator": discriminator, "ema": ema},
        {"student": student_adam, "discriminator": discriminator_adam},
        {"distillation": generator},
    )
    sigma_data = teacher.config.sigma_data
    ladder = settings.levels()[:-1].float()
    fresh = settings.pairing == "fresh"

    def logits_of(pair: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        with accelerator.autocast():
            logits: Tensor = discriminator(pair, sigma, labels).float()
        return logits

    title, kept = "student (distil)", Kept(LABEL, checkpoints, state)
    for step in training_steps(
        title, settings.iterations, student, ema, show=show, kept=kept
    ):  # fmt: skip
        decay_rate(student_adam, settings.learning_rate, step, settings.iterations)
        rows = torch.randint(len(pool.labels), (settings.batch_size,), generator=generator)
        rung = torch.randint(len(ladder), (settings.batch_size,), generator=generator)
        swap = torch.rand(settings.batch_size, generator=generator) < 0.5
        x0, sigma, y = pool.images[rows], ladder[rung], pool.labels[rows]
        if fresh:
            step_out = torch.randn(x0.shape, generator=generator)
        else:
            step_out = pool.noise[rows] - x0 / ladder[0]
        x_r = x0 + sigma[:, None, None, None] * step_out
        x0, x_r, sigma, y, swap = (t.to(device) for t in (x0, x_r, sigma, y, swap))
        with accelerator.autocast():
            with torch.no_grad():
                x_t = teacher(x_r, sigma, y).float() if fresh else x0
            x_s = student(x_r, sigma, y).float()
        weight = loss_weight(sigma, sigma_data).clamp(max=10)
        square = (x_s - x0).square().flatten(1).mean(1)
        if fresh:
            square = square + (x_s - x_t).square().flatten(1).mean(1)
        loss = (weight * square).mean()
        if settings.adversarial_weight > 0:
            adversarial_loss = adversarial_step(
                partial(logits_of, sigma=sigma, labels=y), discriminator_adam, x_t, x_s, swap
            )
            loss = loss + settings.adversarial_weight * adversarial_loss
        student_adam.zero_grad()
        accelerator.backward(loss)
        student_adam.step()
    return student.eval()


def adversarial_step(
    discriminator: Callable[[Tensor], Tensor],
    adam: torch.optim.Optimizer,
    teacher: Tensor,
    student: Tensor,
    swap: Tensor,
    *,
    reduction: str = "mean",
) -> Tensor:
    """Trains the discriminator for one step to tell the teacher's images from the student's.

    Args:
        discriminator: pairs (B, 2 C, H, W) -> logits (B,), high where the teacher seems to be
            first.
        adam: the optimizer of its parameters.
        teacher, student: images, (B, C, H, W); only ``student`` gets a gradient.
        swap: True where the student comes first, (B,).
        reduction: "mean", or "none" for the loss of each pair.

    Returns:
        The student's adversarial loss: low where the discriminator is wrong.
    """
    logits = discriminator(side_by_side(teacher, student.detach(), swap))
    adam.zero_grad()
    binary_cross_entropy_with_logits(logits, (~swap).float()).backward()
    adam.step()
    logits = discriminator(side_by_side(teacher, student, swap))
    return binary_cross_entropy_with_logits(logits, swap.float(), reduction=reduction)


def side_by_side(teacher: Tensor, student: Tensor, swap: Tensor) -> Tensor:
    """Returns C(x_t, x_s) along the channels, (B, 2 C, H, W); C(x_s, x_t) where ``swap`` (B,) is
    True.
    """
    swap = swap[:, None, None, None]
    first, second = torch.where(swap, student, teacher), torch.where(swap, teacher, student)
    return torch.cat([first, second], dim=1)
