"""Fits a variational autoencoder to drawn images.

It descends, per image x with code z ~ N(m(x), v(x)),

    ||x - decode(z)||^2 / (2 spread^2) + KL(N(m(x), v(x)) || N(0, I))

The images are drawn from a released generator, so that the autoencoder is post-processing of it
(theorem A3).

Reference: Kingma, Welling (2014), "Auto-Encoding Variational Bayes", arXiv 1312.6114, equation 10.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dpgen.networks.ema import EMA
from dpgen.networks.proposer import Proposer
from dpgen.networks.seeding import seeded
from dpgen.networks.vae import VAE, VAEConfig
from dpgen.runs.context import Workplace
from dpgen.training.loop import decay_rate, training_steps
from dpgen.training.manifold_settings import ManifoldSettings

LABEL = "autoencoder"  # name of the saved state
EMA_DECAY = 0.99


def untrained(settings: ManifoldSettings, shape: tuple[int, int, int], seed: int) -> VAE:
    """Makes an untrained autoencoder."""
    with seeded(seed):
        return VAE(VAEConfig(shape, settings.n_latents))


def manifold(proposer: Proposer, settings: ManifoldSettings, work: Workplace) -> VAE:
    """Returns an autoencoder of images that a proposer draws, as many of each class, on the CPU.

    Args:
        proposer: draws the images; released, and not changed.
        settings: the numbers.
        work: where it computes, and the seed of all randomness.
    """
    vae = untrained(settings, proposer.config.shape, work.seed)

    def fitted() -> Mapping[str, Tensor]:
        generator = work.generator(530)
        labels = torch.arange(settings.n_images) % proposer.n_classes
        images = proposer.draw(labels, generator).to(work.accelerator.device)
        fit(vae.to(images.device), images, settings, generator=generator, show=work.show)
        return vae.cpu().state_dict()

    vae.load_state_dict(work.checkpoints.once(LABEL, fitted))
    return vae.cpu().eval().requires_grad_(False)


def fit(
    vae: VAE, images: Tensor, settings: ManifoldSettings, *, generator: torch.Generator, show: bool
) -> None:
    """Trains the autoencoder, in place; it ends with averaged weights.

    Args:
        vae: on the device of the images.
        images: (N, C, H, W) in [-1, 1].
        settings: the numbers.
        generator: CPU generator of all randomness.
        show: whether to show a progress bar.
    """
    s = settings
    adam = torch.optim.Adam(vae.parameters(), lr=s.learning_rate)
    ema = EMA(vae, EMA_DECAY, warm_up=True)
    n_steps = s.n_steps(len(images))
    for step in training_steps("autoencoder of drawn images", n_steps, vae, ema, show=show):
        decay_rate(adam, s.learning_rate, step, n_steps)
        rows = torch.randint(len(images), (s.batch_size,), generator=generator)
        x = images[rows.to(images.device)]
        noise = torch.randn(len(x), s.n_latents, generator=generator).to(x)
        loss = bound(vae, x, noise, s.spread).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()


def bound(vae: VAE, images: Tensor, noise: Tensor, spread: float) -> Tensor:
    """Computes the loss of each image, (B,), at codes that are drawn with normal noise, (B, L)."""
    mean, log_variance = vae.encode(images)
    made = vae.decode(mean + noise * (0.5 * log_variance).exp())
    error = (images - made).square().flatten(1).sum(1) / (2 * spread**2)
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
    return error + divergence
