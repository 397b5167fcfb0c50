"""The private teacher as a whole: warm start, pre-training on it, DP-SGD. What `dpdm` releases and `dp-sad` distils."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dpgen.data.images import PublicFacts
from dpgen.data.private import PrivateDataset
from dpgen.networks.denoiser import PRESETS, Denoiser, DenoiserConfig
from dpgen.privacy.accounting import Budget
from dpgen.privacy.mechanisms import NoisySGD, NoisySum
from dpgen.privacy.plan import Plan, Stage, split_budget
from dpgen.stages import denoising, warm_start
from dpgen.stages.denoising import NoiseLevels
from dpgen.stages.moments import ClassMoments
from dpgen.workplace import Workplace


@dataclass(frozen=True)
class TeacherSettings:
    """Everything about the private stages. A field left ``None`` takes the default of the preset.

    Args:
        preset: size of the network: tiny (8x8), small (28-32), base (64 and up).
        warm_start_share: share of mu^2 that the one-shot release gets, in [0, 1]; 0 leaves it out, 1 leaves DP-SGD out.
        bands: second moments are taken of the cosines with u + v < bands.
        blend: weight of a class's own covariance against the pooled one.
        pretrain_steps: training steps on images drawn from the release.
        batch: expected Poisson batch; the rate is ``batch / n_records``.
        n_steps: DP-SGD steps.
        n_draws: noise multiplicity J.
        learning_rate: of DP-SGD (Adam).
        ema_decay: of the averaged weights that are released.
        clip_norm: largest norm of one record's gradient.
    """

    preset: str | None = None
    warm_start_share: float | None = None
    bands: int | None = None
    blend: float | None = None
    pretrain_steps: int | None = None
    pretrain_batch: int | None = None
    batch: int | None = None
    n_steps: int | None = None
    n_draws: int | None = None
    learning_rate: float | None = None
    ema_decay: float | None = None
    clip_norm: float = 1.0


DEFAULTS = {
    "tiny": {
        "warm_start_share": 0.7, "bands": 16, "blend": 0.5, "pretrain_steps": 2000, "pretrain_batch": 256,
        "batch": 360, "n_steps": 100, "n_draws": 8, "learning_rate": 5e-4, "ema_decay": 0.98,
    },
    "small": {
        "warm_start_share": 0.1, "bands": 12, "blend": 0.5, "pretrain_steps": 1000, "pretrain_batch": 64,
        "batch": 4096, "n_steps": 2000, "n_draws": 16, "learning_rate": 3e-4, "ema_decay": 0.999,
    },
    "base": {
        "warm_start_share": 0.1, "bands": 12, "blend": 0.5, "pretrain_steps": 1000, "pretrain_batch": 64,
        "batch": 4096, "n_steps": 2000, "n_draws": 16, "learning_rate": 3e-4, "ema_decay": 0.999,
    },
}  # fmt: skip


def resolve(settings: TeacherSettings, facts: PublicFacts) -> TeacherSettings:
    """Fills every ``None`` from the preset, which itself follows from the public shape."""
    side = max(facts.shape[1:])
    name = settings.preset or ("tiny" if side <= 16 else "small" if side <= 32 else "base")
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    chosen = {k: v for k, v in DEFAULTS[name].items() if getattr(settings, k) is None}
    filled = replace(settings, preset=name, **chosen)
    if filled.batch > facts.n_records:
        # A small data set: a quarter of it a step, from public numbers alone.
        filled = replace(filled, batch=max(1, facts.n_records // 4)) if settings.batch is None else filled
    if not 0 < filled.batch <= facts.n_records:
        raise ValueError(f"batch must lie in [1, n_records = {facts.n_records}], got {filled.batch}")
    return filled


def plan(settings: TeacherSettings, facts: PublicFacts, budget: Budget) -> Plan:
    """The stages and their prices, from resolved settings."""
    s = settings
    rate = s.batch / facts.n_records
    release, sgd = split_budget(
        budget, facts.adjacency, warm_start_share=s.warm_start_share, rate=rate, n_steps=s.n_steps
    )
    stages = []
    if release is not None:
        stages.append(Stage(warm_start.LABEL, NoisySum(moments(s, facts), release)))
    if sgd is not None:
        mechanism = NoisySGD(rate, s.n_steps, sgd, facts.n_records, s.clip_norm)
        stages.append(Stage(denoising.LABEL, mechanism))
    return Plan(tuple(stages), facts.adjacency)


def moments(settings: TeacherSettings, facts: PublicFacts) -> ClassMoments:
    """The warm start's statistic: centred at a public grey, clipped where most images of this many pixels end."""
    pixels = facts.shape[0] * facts.shape[1] * facts.shape[2]
    return ClassMoments(
        facts.shape,
        facts.n_classes,
        centre=-0.4,
        radius=6.5 * (pixels / 64) ** 0.5,
        count_weight=(pixels / 64) ** 0.5,
        second_weight=1.0,
        bands=settings.bands,
    )


def train(
    settings: TeacherSettings, facts: PublicFacts, data: PrivateDataset, plan: Plan, work: Workplace
) -> tuple[Denoiser, warm_start.ClassGaussians | None]:
    """Runs the private stages. Returns the teacher and the warm start's own model, both released."""
    s, device = settings, work.accelerator.device
    with torch.random.fork_rng():
        torch.manual_seed(work.seed)
        denoiser = Denoiser(DenoiserConfig.preset(s.preset, facts.shape, facts.n_classes)).to(device)
    levels = NoiseLevels(n_draws=s.n_draws)
    gaussians = None
    if (release := plan.mechanism(warm_start.LABEL)) is not None:
        tables = warm_start.release_moments(data, release, work.run.checkpoints)
        gaussians = warm_start.fit(tables, release, facts.n_records, blend=s.blend)
        _pretrain(denoiser, gaussians, levels, s, facts, work)
    if (sgd := plan.mechanism(denoising.LABEL)) is not None:
        denoising.train_teacher(
            denoiser,
            data,
            sgd,
            levels,
            learning_rate=s.learning_rate,
            ema_decay=s.ema_decay,
            micro_batch=work.micro_batch,
            checkpoints=work.run.checkpoints,
            accelerator=work.accelerator,
            show=work.show,
        )
    return denoiser, gaussians


def _pretrain(
    denoiser: Denoiser,
    gaussians: warm_start.ClassGaussians,
    levels: NoiseLevels,
    settings: TeacherSettings,
    facts: PublicFacts,
    work: Workplace,
) -> None:
    held = work.run.checkpoints.load("pretrained")
    if held is not None:
        denoiser.load_state_dict(held[0])
        return

    def draw(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        labels = torch.randint(facts.n_classes, (n,), generator=generator)
        return gaussians.sample(labels, generator), labels

    denoising.pretrain(
        denoiser,
        draw,
        levels,
        n_steps=settings.pretrain_steps,
        batch_size=settings.pretrain_batch,
        learning_rate=2e-3,
        ema_decay=0.995,
        generator=work.generator(1),
        accelerator=work.accelerator,
        show=work.show,
    )
    work.run.checkpoints.save("pretrained", denoiser.state_dict())
