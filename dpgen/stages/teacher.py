"""The private teacher: a start on public images or with other weights, if there are any, warm
start, pre-training on it, DP-SGD. `dpdm` and `pge` release it, and `dp-sad` distils it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from dpgen.data.private import PrivateDataset
from dpgen.images.facts import PublicFacts
from dpgen.images.public_images import PublicImages
from dpgen.networks.adapters import adapted, merged
from dpgen.networks.denoiser import Denoiser
from dpgen.networks.fixed.cosines import Cosines
from dpgen.networks.gaussian import GaussianDenoiser
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum
from dpgen.privacy.plan import Plan
from dpgen.runs.context import Workplace
from dpgen.runs.initial_weights import InitialWeights
from dpgen.stages import denoising, shared_steps, sketch, warm_start
from dpgen.stages.moments import MEANS, SPREAD
from dpgen.stages.teacher_plan import LABEL
from dpgen.stages.teacher_settings import Teacher, TeacherSettings
from dpgen.training.denoising import NoiseLevels, pretrain
from dpgen.training.public_start import start_on_public
from dpgen.training.refit import fit_score
from dpgen.training.refit_settings import RefitSettings

__all__ = ["TeacherSettings", "begun_on", "train", "untrained"]


def train(
    settings: Teacher, facts: PublicFacts, data: PrivateDataset, plan: Plan, work: Workplace
) -> tuple[Denoiser, dict[str, nn.Module]]:
    """Runs the private stages. Unless `residual` is off, the warm start's model stays in the
    teacher as its prior.

    Returns:
        The teacher, and by file name other networks of the warm start to release: the sketch's
        proposer, if it has a labeller, and its classifier.
    """
    s, device = settings, work.accelerator.device
    denoiser = untrained(s, facts, work.seed)
    if work.weights is not None:
        denoiser.load_state_dict(work.weights)
    denoiser = denoiser.to(device)
    levels, others = NoiseLevels(n_draws=s.n_draws), dict[str, nn.Module]()
    # A checkpoint of DP-SGD holds the whole network, so earlier steps are not repeated.
    begun = work.checkpoints.load(LABEL) is not None
    means, spread = plan.mechanism(MEANS, NoisySum), plan.mechanism(SPREAD, NoisySum)
    if s.sketch is not None:
        sketched = sketch.run(s.sketch, facts, data, plan, work)
        proposer = sketched.proposer
        score = RefitSettings(
            n_samples=s.sketch.n_samples, n_steps=s.pretrain_steps, batch_size=s.pretrain_batch
        )
        if not begun:
            fit_score(denoiser, proposer, score, levels, work)
        if proposer.labeller is not None:
            others["proposals"] = proposer
        others |= sketched.own
    elif means is not None and spread is not None:
        gaussians = warm_start.run(
            data, means, spread, facts.n_records, s.blend, work.checkpoints, show=work.show
        )
        prior = denoiser.prior or GaussianDenoiser(
            Cosines(facts.shape, s.bands), facts.n_classes, denoiser.config.sigma_data
        )
        prior.set(*gaussians)
        if s.pretrain_steps > 0 and not begun:
            _pretrain(denoiser, copy.deepcopy(prior).cpu(), levels, s, facts, work)
    if (sgd := plan.mechanism(LABEL, NoisySGD)) is not None:
        trained = denoiser
        if s.adapters:
            trained = adapted(denoiser, s.adapters, work.generator(502))
        denoising.train_teacher(
            trained,
            data,
            sgd,
            levels,
            loss=s.loss,
            learning_rate=s.learning_rate,
            ema_decay=s.ema_decay,
            micro_batch=work.micro_batch,
            checkpoints=work.checkpoints,
            accelerator=work.accelerator,
            show=work.show,
            shares=shared_steps.shares(),
        )
        if s.adapters:
            denoiser.load_state_dict(merged(trained))
    return denoiser, others


def begun_on(
    start: PublicImages | InitialWeights, settings: Teacher, facts: PublicFacts, work: Workplace
) -> Workplace:
    """Trains the network on public images, or gives it other weights, before a run is charged, and
    returns the place with the weights that the private stages start from. A finished training is
    not repeated. Raises ValueError for adapters in half precision.
    """
    settings.check_precision(work.accelerator.mixed_precision)
    denoiser = untrained(settings, facts, work.seed)
    if isinstance(start, InitialWeights):
        start.put_into(denoiser, facts.class_names)
    else:
        assert settings.public is not None
        denoiser = denoiser.to(work.accelerator.device)
        start_on_public(denoiser, start, settings.public, facts.class_names, work)
    return replace(work, weights=denoiser.cpu().state_dict())


def untrained(settings: Teacher, facts: PublicFacts, seed: int) -> Denoiser:
    """Makes the untrained network, from public randomness."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Denoiser(settings.network(facts))


def _pretrain(
    denoiser: Denoiser,
    prior: GaussianDenoiser,
    levels: NoiseLevels,
    settings: Teacher,
    facts: PublicFacts,
    work: Workplace,
) -> None:

    def draw(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        labels = torch.randint(facts.n_classes, (n,), generator=generator)
        return prior.sample(labels, generator), labels

    def pretrained() -> Mapping[str, Tensor]:
        pretrain(
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
        return denoiser.state_dict()

    denoiser.load_state_dict(work.checkpoints.once("pretrained", pretrained))
