"""Fits a score network to a proposer's images, which is post-processing and costs no privacy."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dpgen.images.facts import PublicFacts
from dpgen.networks.denoiser import Denoiser
from dpgen.networks.fixed.cosines import Cosines
from dpgen.networks.gaussian import GaussianDenoiser
from dpgen.networks.proposer import Proposer
from dpgen.networks.seeding import seeded
from dpgen.progress import progress_bar
from dpgen.runs.context import Workplace
from dpgen.training.denoising import NoiseLevels, pretrain
from dpgen.training.refit_settings import RefitSettings


def pool(proposer: Proposer, n: int, work: Workplace, purpose: int) -> tuple[Tensor, Tensor]:
    """Draws pixels (n, C, H, W) and labels (n,) from a proposer, with a progress bar."""
    labels, parts = torch.arange(n) % proposer.n_classes, []
    generator = work.generator(purpose)
    with progress_bar("proposals", n, show=work.show) as advance:
        for part in labels.split(500):
            parts.append(proposer.draw(part, generator))
            for _ in part:
                advance()
    return torch.cat(parts), labels


def refit(
    proposer: Proposer, settings: RefitSettings, facts: PublicFacts, work: Workplace
) -> Denoiser:
    """Fits the score of a proposer's images at every noise level.

    Args:
        proposer: draws the images to learn from.
        settings: numbers of network and training.
        facts: public facts, for the shape and the classes.
        work: where the fit computes and saves.
    """
    with seeded(work.seed):
        denoiser = Denoiser(settings.network(facts)).to(work.accelerator.device)
    fit_score(denoiser, proposer, settings, NoiseLevels(mean=-1.2, std=1.2), work)
    return denoiser


def fit_score(
    denoiser: Denoiser,
    proposer: Proposer,
    settings: RefitSettings,
    levels: NoiseLevels,
    work: Workplace,
) -> None:
    """Trains a denoiser on a proposer's images, in place, after setting its prior, if it has one,
    to their moments.

    Args:
        levels: the distribution of training noise levels.
    """
    s = settings

    def fitted() -> Mapping[str, Tensor]:
        pixels, labels = pool(proposer, s.n_samples, work, 400)
        if denoiser.prior is not None:
            bands = denoiser.config.prior_bands
            describe(denoiser.prior, pixels, labels, Cosines(denoiser.config.shape, bands))

        def draw(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            rows = torch.randint(len(labels), (n,), generator=generator)
            return pixels[rows], labels[rows]

        pretrain(
            denoiser,
            draw,
            levels,
            n_steps=s.n_steps,
            batch_size=s.batch_size,
            learning_rate=s.learning_rate,
            ema_decay=s.ema_decay,
            generator=work.generator(401),
            accelerator=work.accelerator,
            show=work.show,
        )
        return denoiser.state_dict()

    denoiser.load_state_dict(work.checkpoints.once("score", fitted))


def describe(gaussian: GaussianDenoiser, pixels: Tensor, labels: Tensor, cosines: Cosines) -> None:
    """Sets the moments of a Gaussian denoiser to those of images, class by class."""
    own = [moments_of(pixels[labels == k], cosines) for k in range(gaussian.n_classes)]
    means, covariances, outside = (torch.stack(parts) for parts in zip(*own, strict=True))
    gaussian.set(means, covariances, float(outside.mean().clamp_min(0).sqrt()))


def moments_of(pixels: Tensor, cosines: Cosines) -> tuple[Tensor, Tensor, Tensor]:
    """Computes the moments of images, as a Gaussian denoiser holds those of a class.

    Args:
        pixels: (N, C, H, W), N at least 1.

    Returns:
        Mean (C H W,), covariance of the cosines' coefficients (m, m), positive definite, and the
        variance outside the cosines, a scalar; float64.
    """
    mine = pixels.flatten(1).double()
    mean = mine.mean(0)
    coefficients = cosines.analyse(mine - mean)
    covariance = coefficients.T @ coefficients / len(mine)
    covariance = covariance + 1e-4 * torch.eye(len(covariance), dtype=torch.float64)
    rest = (mine - mean).square().sum(1) - coefficients.square().sum(1)
    return mean, covariance, rest.mean() / max(1, mine.shape[1] - coefficients.shape[1])
