r"""DP-SAD as published, for study: an unprotected teacher, a student with noise on its gradients.

Teacher and discriminator learn from private images without protection. At each step ONE random
noise level r represents the whole chain; teacher and student get the same input, the gradient of
the loss of each sample by the student's *output* is clipped to norm C and noised, and the chain
rule carries it to the weights.

    L = MSE(x_t, x_s) + MSE(x_0, x_s) + lambda L_adv(Dis(C(x_t, x_s)))        x_r = x_0 + sigma_r z
    g_i = clip_C(dL_i / dx_s,i) + N(0, (noise_multiplier C)^2),   theta gets sum_i g_i dx_s,i/dtheta

The paper prices a step as one record's clipped gradient in a sample of B from N. But every g_i is a
function of the teacher, which is a function of every record: one record moves all B of them, by up
to 2 C each, sampled or not. The stacked vector moves by 2 C sqrt(B), there is no amplification by
sampling, and T steps are a Gaussian mechanism of mu = 2 sqrt(B T) / noise_multiplier between *any*
two data sets. That holds when the student's inputs do not depend on data. With x_r made from a
private image, as published, dx_s/dtheta is a second function of that image without noise: no
epsilon holds. Proof: theorems P1 and A2.

Reference: Liu, Wang, Ge (2024), arXiv 2408.14738, as reconstructed. The paper also divides the
noise by the number of noise levels, which is not done here and would only make it smaller.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from functools import partial

import torch
from torch import Tensor

from dpgen.data.private import PrivateDataset
from dpgen.images.images import Images, PublicFacts
from dpgen.networks.denoiser import Denoiser, loss_weight
from dpgen.networks.discriminator import Discriminator
from dpgen.networks.ema import EMA
from dpgen.privacy.accounting.accountant import Budget, epsilon_of, round_up
from dpgen.privacy.accounting.calibration import calibrate
from dpgen.privacy.accounting.events import GaussianLeaf
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.mechanisms.clipping import clip_factors
from dpgen.privacy.mechanisms.noise import NoiseSource
from dpgen.privacy.statements.notice import Claim, gaussian_worst_case, unbounded
from dpgen.published import unprotected
from dpgen.published.dp_sad_settings import PaperSettings
from dpgen.runs.context import Workplace
from dpgen.training.distillation import adversarial_step
from dpgen.training.loop import training_steps

MECHANISM = "dp-sad/paper"
QUERIES = "output gradients"
CLAIMED_BY = "each step one Gaussian on a sample of the records, teacher and discriminator free"
REASONS = {
    "real": "The teacher and the discriminator have seen every record, so one record moves every "
    "clipped gradient and not only its own. The student's input is made from a private image, so "
    "the Jacobian that carries the noised gradient to the weights is itself un-noised.",
    "noise": "The teacher and the discriminator have seen every record, so one record moves all "
    "output gradients of a step, each by up to 2 C, whether it was sampled or not. Nothing is "
    "amplified, and the bound holds between any two data sets.",
}


def claim(settings: PaperSettings, facts: PublicFacts, budget: Budget) -> Claim:
    """Finds the noise that meets ``budget`` by the paper's accounting, and the worst case under
    that noise.
    """
    s, rate = settings, settings.batch / facts.n_records
    relation = Relation(facts.adjacency, 1)  # the paper's unit is a record, not a person
    multiplier = calibrate(lambda x: GaussianLeaf(rate, x, s.n_steps).event, budget, relation)
    claimed = GaussianLeaf(rate, multiplier, s.n_steps).event
    worst = unbounded(budget.delta)
    if s.student_input == "noise":
        worst = gaussian_worst_case(query_mu(s, multiplier), budget.delta)
    return Claim(
        mechanism=MECHANISM,
        claimed_epsilon=round_up(epsilon_of(claimed, budget.delta, relation)),
        claimed_by=CLAIMED_BY,
        worst_case=worst,
        reason=REASONS[s.student_input],
        reference="theorem P1",
        settings={**asdict(s), "noise_multiplier": multiplier, "rate": rate},
    )


def query_mu(settings: PaperSettings, noise_multiplier: float) -> float:
    """Computes sensitivity over noise of all steps together: each moves by 2 C sqrt(B)."""
    return 2 * math.sqrt(settings.batch * settings.n_steps) / noise_multiplier


def train(
    settings: PaperSettings,
    facts: PublicFacts,
    data: PrivateDataset,
    claim: Claim,
    work: Workplace,
) -> Denoiser:
    """Runs the published algorithm, and returns the student."""
    records, noise = data.unprotected_records(claim)
    images = unprotected.read_all(records)
    teacher = _teacher(settings, facts, images, work)
    student = unprotected.untrained(settings.preset, facts, work.seed + 1)
    std = float(claim.settings["noise_multiplier"]) * settings.clip_norm
    _distil(settings, teacher, student.to(work.accelerator.device), images, noise, std, work)
    return student


def _teacher(
    settings: PaperSettings, facts: PublicFacts, images: Images, work: Workplace
) -> Denoiser:
    device, ladder = work.accelerator.device, settings.ladder
    network = unprotected.untrained(settings.preset, facts, work.seed).to(device)

    def loss(x: Tensor, y: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
        rung = torch.randint(len(ladder), y.shape, generator=generator)
        sigma = ladder[rung].to(device)
        z = torch.randn(x.shape, generator=generator).to(device)
        denoised = network(x + sigma[:, None, None, None] * z, sigma, y)
        weight = loss_weight(sigma, network.config.sigma_data)
        losses: Tensor = weight * (denoised - x).square().flatten(1).mean(1)
        return losses

    schedule = unprotected.Schedule(
        "teacher (unprotected)", settings.teacher_steps, settings.batch, settings.learning_rate,
        settings.ema_decay,
    )  # fmt: skip
    unprotected.fit(network, images, loss, schedule, work)
    return network.eval().requires_grad_(False)


def _distil(
    settings: PaperSettings,
    teacher: Denoiser,
    student: Denoiser,
    images: Images,
    noise: NoiseSource,
    std: float,
    work: Workplace,
) -> None:
    """Trains the student, in place, on noised gradients by its outputs."""
    s, device, generator = settings, work.accelerator.device, work.generator(2)
    with torch.random.fork_rng():
        torch.manual_seed(work.seed + 2)
        discriminator = Discriminator(teacher.config.shape, teacher.n_classes).to(device)
    optimizer = torch.optim.Adam(student.parameters(), lr=s.learning_rate)
    discriminator_adam = torch.optim.Adam(discriminator.parameters(), lr=s.learning_rate)
    ema, ladder = EMA(student, s.ema_decay, warm_up=True), s.ladder
    for step in training_steps("student (published)", s.n_steps, student, ema, show=work.show):
        x0, y = _start(s, student, images, generator, device)
        sigma = ladder[torch.randint(len(ladder), (1,), generator=generator)].to(device)
        sigma = sigma.expand(s.batch)
        swap = (torch.rand(s.batch, generator=generator) < 0.5).to(device)
        z = torch.randn(x0.shape, generator=generator).to(device)
        x_r = x0 + sigma[:, None, None, None] * z
        with torch.no_grad():
            x_t = teacher(x_r, sigma, y)
        x_s = student(x_r, sigma, y)
        output = x_s.detach().requires_grad_()
        loss = (x_t - output).square().flatten(1).mean(1)
        if s.student_input == "real":
            loss = loss + (x0 - output).square().flatten(1).mean(1)
        if s.adversarial_weight > 0:
            logits_of = partial(discriminator, sigma=sigma, labels=y)
            loss = loss + s.adversarial_weight * adversarial_step(
                logits_of, discriminator_adam, x_t, output, swap, reduction="none"
            )
        (by_output,) = torch.autograd.grad(loss.sum(), output)
        clipped = clip_rows(by_output, s.clip_norm)
        answer = noise.add(clipped, std, release=step, name=QUERIES)
        optimizer.zero_grad()
        x_s.backward(answer.to(x_s) / s.batch)
        optimizer.step()


def _start(
    settings: PaperSettings,
    student: Denoiser,
    images: Images,
    generator: torch.Generator,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Returns the student's inputs before noise is added: private images, or images of its own."""
    if settings.student_input == "real":
        return unprotected.batch_of(images, settings.batch, generator, device)[:2]
    y = torch.randint(student.n_classes, (settings.batch,), generator=generator).to(device)
    z = torch.randn(settings.batch, *student.config.shape, generator=generator).to(device)
    sigma = torch.full((settings.batch,), settings.sigma_max, device=device)
    with torch.no_grad():
        return student(settings.sigma_max * z, sigma, y).clamp(-1, 1), y


def clip_rows(gradients: Tensor, clip_norm: float) -> Tensor:
    """Scales each row (B, *S) to norm at most ``clip_norm``, float64; zero where not finite."""
    rows = gradients.double()
    factors = clip_factors(rows.flatten(1).norm(dim=1), clip_norm)
    factors = factors.reshape(-1, *[1] * (rows.ndim - 1))
    return torch.where(factors > 0, factors * rows, torch.zeros_like(rows))
