r"""Bootstrapping: a student of one step from a released teacher alone, without a pool of images.

The teacher's path begins at noise, x_{sigma_max} = sigma_max e, and its signal is what is left when
the noise is taken away, y_t = x_t - t e. By the probability flow dx/dt = (x - D(x, t)) / t,

    dy/dt = (y - D(y + t e, t)) / t,        y_s = (1 - s/t) D(y_t + t e, t) + (s/t) y_t

the second being DDIM's step from t down to s. The student Y(e, t) says y_t from e and t at once; it
is a denoiser that sees sigma_max e, and whose noise embedding says t. It learns from its own answer
one level higher, and at the top from the teacher's:

    L = ||Y(e, s) - sg[(1 - s/t) D(Y(e, t) + t e, t) + (s/t) Y(e, t)]||^2 / (1 - s/t)^2
        + beta ||Y(e, sigma_max) - D(sigma_max e, sigma_max)||^2

with t one of `N_LEVELS` geometric levels and s the next lower one. At sigma_min, Y is the image.
The student is post-processing of the teacher (theorem A3) and costs no privacy.

Reference: Gu, Zhai, Zhang, Liu, Susskind (2023), "BOOT: Data-free Distillation of Denoising
Diffusion Models with Bootstrapping", arXiv 2306.05544; here with variance-exploding noise.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from accelerate import Accelerator
from torch import Tensor

from dpgen.networks.denoiser import Denoiser
from dpgen.networks.ema import EMA
from dpgen.runs.checkpoint import Checkpoints, TrainingState
from dpgen.training.distillation_settings import LABEL, Distillation
from dpgen.training.loop import Kept, decay_rate, training_steps

N_LEVELS = 64
BOUNDARY = 0.3  # beta; the loss at the top alone says where the path begins


def bootstrap(
    teacher: Denoiser,
    settings: Distillation,
    *,
    generator: torch.Generator,
    checkpoints: Checkpoints,
    accelerator: Accelerator,
    show: bool,
) -> Denoiser:
    """Trains the student, which draws by one step from ``settings.sigma_max``. A resumed run ends
    with exactly the weights of an uninterrupted one.

    Args:
        teacher: released network; it is not changed.
        settings: with a ladder of one step.
        generator: CPU generator of all randomness of this stage.
        checkpoints: where its states are saved.
        accelerator: says the device and the precision.
        show: a progress bar.
    """
    device = accelerator.device
    teacher = teacher.to(device).eval().requires_grad_(False)
    student = Denoiser(replace(teacher.config, level=settings.sigma_min)).to(device)
    student.load_state_dict(teacher.state_dict())
    ema = EMA(student, settings.ema_decay, warm_up=True)
    adam = torch.optim.Adam(student.parameters(), lr=settings.learning_rate, betas=(0.5, 0.99))
    state = TrainingState(
        {"student": student, "ema": ema}, {"student": adam}, {"distillation": generator}
    )
    levels = path_of(settings)
    kept = Kept(LABEL, checkpoints, state)
    for step in training_steps(
        "student (bootstrap)", settings.iterations, student.train(), ema, show=show, kept=kept
    ):
        decay_rate(adam, settings.learning_rate, step, settings.iterations)
        noise = torch.randn(settings.batch_size, *teacher.config.shape, generator=generator)
        labels = torch.randint(teacher.n_classes, (settings.batch_size,), generator=generator)
        rung = torch.randint(N_LEVELS - 1, (settings.batch_size,), generator=generator)
        e, y, t, s = (x.to(device) for x in (noise, labels, levels[rung], levels[rung + 1]))
        with accelerator.autocast():
            loss = bootstrap_loss(teacher, student, e, y, t, s, settings.sigma_max)
        adam.zero_grad()
        accelerator.backward(loss)
        adam.step()
    return student.eval()


def path_of(settings: Distillation) -> Tensor:
    """Returns the levels from sigma_max down to sigma_min, (N_LEVELS,)."""
    ratio = settings.sigma_min / settings.sigma_max
    return settings.sigma_max * ratio ** (torch.arange(N_LEVELS) / (N_LEVELS - 1))


def bootstrap_loss(
    teacher: Denoiser, student: Denoiser, noise: Tensor, labels: Tensor, t: Tensor, s: Tensor,
    sigma_max: float,
) -> Tensor:  # fmt: skip
    """Computes the loss of the module for unit noise (B, C, H, W), labels (B,) and levels
    t > s, (B,).
    """
    top = torch.full_like(t, sigma_max)

    def signal(level: Tensor) -> Tensor:
        return student(sigma_max * noise, top, labels, level)

    wide_t, ratio = t[:, None, None, None], (s / t)[:, None, None, None]
    with torch.no_grad():
        above = signal(t)
        target = (1 - ratio) * teacher(above + wide_t * noise, t, labels) + ratio * above
        first = teacher(sigma_max * noise, top, labels)
    follows = ((signal(s) - target) / (1 - ratio)).square().mean()
    begins = (signal(top) - first).square().mean()
    return follows + BOUNDARY * begins
