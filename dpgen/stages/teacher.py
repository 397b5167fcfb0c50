"""The private teacher as a whole: warm start, pre-training on it, DP-SGD. What `dpdm` releases and
`dp-sad` distils.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dpgen.cosines import Cosines
from dpgen.data.images import PublicFacts
from dpgen.data.private import PrivateDataset
from dpgen.networks.denoiser import PRESETS, Denoiser, DenoiserConfig
from dpgen.privacy.accounting import Budget
from dpgen.privacy.mechanisms import NoisySGD, NoisySum
from dpgen.privacy.plan import Plan, Stage, split_budget
from dpgen.stages import denoising, warm_start
from dpgen.stages.denoising import NoiseLevels
from dpgen.stages.moments import ClassMeans, ClassSpread
from dpgen.workplace import Workplace


@dataclass(frozen=True)
class TeacherSettings:
    """Everything about the private stages. A field left ``None`` takes the default of the preset.

    Args:
        preset: size of the network: tiny (8x8), small (28-32), base (64 and up).
        warm_start_share: share of mu^2 that the warm start gets, in [0, 1]; 0 leaves it out, 1
            leaves DP-SGD out.
        means_share: share of the warm start's mu^2 that class means get, in (0, 1); the spread gets
            the rest.
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
    means_share: float = 0.6
    bands: int | None = None
    blend: float = 0.75
    pretrain_steps: int | None = None
    pretrain_batch: int = 128
    batch: int | None = None
    n_steps: int | None = None
    n_draws: int | None = None
    learning_rate: float | None = None
    ema_decay: float | None = None
    clip_norm: float = 1.0


DEFAULTS = {
    # tiny: chosen on splits within the 1,437 training digits (five folds); the held-out ones were
    # not looked at.
    "tiny": {
        "warm_start_share": 0.9, "bands": 15, "pretrain_steps": 0, "batch": 144,
        "n_steps": 40, "n_draws": 8, "learning_rate": 3e-4, "ema_decay": 0.9,
    },
    "small": {
        "warm_start_share": 0.1, "bands": 12, "pretrain_steps": 0, "batch": 4096,
        "n_steps": 2000, "n_draws": 16, "learning_rate": 3e-4, "ema_decay": 0.999,
    },
    "base": {
        "warm_start_share": 0.1, "bands": 8, "pretrain_steps": 0, "batch": 4096,
        "n_steps": 2000, "n_draws": 16, "learning_rate": 3e-4, "ema_decay": 0.999,
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
        filled = (
            replace(filled, batch=max(1, facts.n_records // 4))
            if settings.batch is None
            else filled
        )
    if not 0 < filled.batch <= facts.n_records:
        raise ValueError(
            f"batch must lie in [1, n_records = {facts.n_records}], got {filled.batch}"
        )
    _check(filled)
    _network(filled, facts)  # a shape that the network cannot take, before anything is paid
    return filled


def _check(settings: TeacherSettings) -> None:
    """Refuses what would only fail later, when the budget is spent."""
    s = settings
    for name, low in (("pretrain_steps", 0), ("pretrain_batch", 1), ("n_steps", 0), ("n_draws", 1)):
        if getattr(s, name) < low:
            raise ValueError(f"{name} must be at least {low}, got {getattr(s, name)}")
    if not 0 < s.learning_rate < float("inf"):
        raise ValueError(f"learning_rate must be a number greater than 0, got {s.learning_rate}")
    if not 0 <= s.ema_decay < 1:
        raise ValueError(f"ema_decay must lie in [0, 1), got {s.ema_decay}")
    for name in ("warm_start_share", "blend"):
        if not 0 <= getattr(s, name) <= 1:
            raise ValueError(f"{name} must lie in [0, 1], got {getattr(s, name)}")
    if not 0 < s.means_share < 1:
        raise ValueError(f"means_share must lie in (0, 1), got {s.means_share}")
    if s.pretrain_steps > 0 and s.warm_start_share == 0:
        raise ValueError(
            f"pretrain_steps must be 0 without a warm start, got {s.pretrain_steps}: "
            "raise warm_start_share"
        )


def plan(settings: TeacherSettings, facts: PublicFacts, budget: Budget) -> Plan:
    """The stages and their prices, from resolved settings."""
    s = settings
    rate = s.batch / facts.n_records
    w, f = s.warm_start_share, s.means_share
    shares = [w * f, w * (1 - f)] if w > 0 else []
    releases, sgd = split_budget(
        budget, facts.adjacency, shares=shares, rate=rate, n_steps=s.n_steps
    )
    stages = [
        Stage(label, NoisySum(statistic, multiplier))
        for (label, statistic), multiplier in zip(statistics(s, facts), releases, strict=False)
    ]
    if sgd is not None:
        mechanism = NoisySGD(rate, s.n_steps, sgd, facts.n_records, s.clip_norm)
        stages.append(Stage(denoising.LABEL, mechanism))
    return Plan(tuple(stages), facts.adjacency)


def statistics(
    settings: TeacherSettings, facts: PublicFacts
) -> list[tuple[str, ClassMeans | ClassSpread]]:
    """The warm start's statistics, with radii at which most images of this many pixels are not
    clipped.
    """
    scale = (facts.shape[0] * facts.shape[1] * facts.shape[2] / 64) ** 0.5
    means = ClassMeans(
        facts.shape, facts.n_classes, centre=-0.4, radius=6.0 * scale, count_weight=scale
    )
    spread = ClassSpread(Cosines(facts.shape, settings.bands), facts.n_classes, radius=4.5 * scale)
    return [(warm_start.MEANS, means), (warm_start.SPREAD, spread)]


def train(
    settings: TeacherSettings, facts: PublicFacts, data: PrivateDataset, plan: Plan, work: Workplace
) -> Denoiser:
    """Runs the private stages; the warm start's own model stays in the teacher as its prior."""
    s, device = settings, work.accelerator.device
    denoiser = untrained(s, facts, work.seed).to(device)
    levels = NoiseLevels(n_draws=s.n_draws)
    means, spread = plan.mechanism(warm_start.MEANS), plan.mechanism(warm_start.SPREAD)
    if means is not None and spread is not None:
        gaussians = warm_start.run(
            data, means, spread, facts.n_records, s.blend, work.run.checkpoints, show=work.show
        )
        assert denoiser.prior is not None
        denoiser.prior.set(*gaussians)
        if s.pretrain_steps > 0:
            _pretrain(denoiser, levels, s, facts, work)
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
    return denoiser


def untrained(settings: TeacherSettings, facts: PublicFacts, seed: int) -> Denoiser:
    """The network before it has learned anything, from public randomness."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Denoiser(_network(settings, facts))


def _network(settings: TeacherSettings, facts: PublicFacts) -> DenoiserConfig:
    return DenoiserConfig.preset(
        settings.preset,
        facts.shape,
        facts.n_classes,
        prior_bands=settings.bands if settings.warm_start_share > 0 else 0,
    )


def _pretrain(
    denoiser: Denoiser,
    levels: NoiseLevels,
    settings: TeacherSettings,
    facts: PublicFacts,
    work: Workplace,
) -> None:
    held = work.run.checkpoints.load("pretrained")
    if held is not None:
        denoiser.load_state_dict(held[0])
        return

    prior = copy.deepcopy(denoiser.prior).cpu()
    assert prior is not None

    def draw(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        labels = torch.randint(facts.n_classes, (n,), generator=generator)
        return prior.sample(labels, generator), labels

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
