"""Trains a denoiser on public images, before any private stage.

This is ordinary training, without clipping and without noise. It sees public images, public facts
and public randomness, and nothing that was released of private records, so a network that it
returns is a public constant: the analysis of the private stages that start from it is that of an
untrained one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dpgen.images.public_images import PublicImages
from dpgen.networks.denoiser import Denoiser
from dpgen.networks.ema import EMA
from dpgen.networks.fixed.cosines import Cosines
from dpgen.runs.checkpoint import TrainingState
from dpgen.runs.context import Workplace
from dpgen.training.denoising import NoiseLevels, denoising_loss
from dpgen.training.loop import Kept, decay_rate, training_steps
from dpgen.training.public_settings import PublicSettings
from dpgen.training.refit import moments_of

LABEL = "public start"  # name of the saved state
N_DESCRIBED = 10_000  # images of which the moments of a prior are taken


def start_on_public(
    denoiser: Denoiser,
    images: PublicImages,
    settings: PublicSettings,
    class_names: Sequence[str],
    work: Workplace,
) -> None:
    """Trains the denoiser on public images, in place. A resumed run ends with exactly the weights
    of an uninterrupted one.

    If the network corrects a Gaussian, it is that of the public images here, the same for every
    class; the private warm start then sets it to released moments. A class that no public image is
    learned as begins as the null class has ended.

    Args:
        denoiser: the network, on the device of ``work``.
        images: the public images, of the network's shape.
        settings: the numbers of the training.
        class_names: the private classes, which are public facts.
        work: where the training computes and saves.

    Raises:
        ValueError: the training ended with a weight that is not finite, or its saved state is of
            other images.
    """
    s, null = settings, denoiser.null_label
    generator, levels = work.generator(500), NoiseLevels(n_draws=1)
    by_name = s.labels == "names"
    labels = images.labels_among(class_names) if by_name else torch.full((len(images),), null)
    learned = PublicImages(images.name, images.pixels, labels, images.class_names)
    if denoiser.prior is not None:
        _describe(denoiser, learned, work)
    adam = torch.optim.Adam(denoiser.parameters(), lr=s.learning_rate)
    average = EMA(denoiser, s.ema_decay, warm_up=True)
    state = TrainingState({"model": denoiser, "ema": average}, {"adam": adam}, {"draws": generator})
    read = f"{images.sha256} {images.labels_sha256(class_names)}" if by_name else images.sha256
    kept = Kept(LABEL, work.checkpoints, state, read)
    for step in training_steps(
        "start (public)", s.n_steps, denoiser, average, show=work.show, kept=kept
    ):
        decay_rate(adam, s.learning_rate, step, s.n_steps)
        pixels, y = learned.draw(s.batch_size, generator)
        loss = denoising_loss(denoiser, pixels, y, levels, generator, work.accelerator)
        adam.zero_grad()
        work.accelerator.backward(loss)
        adam.step()
    for name, weight in denoiser.state_dict().items():
        if not torch.isfinite(weight).all():
            raise ValueError(
                f"the training on public images ended with weight {name} not finite: nothing was "
                f"charged. Take a learning rate below {s.learning_rate:g} "
                "(teacher.public.learning_rate)"
            )
    _share_embedding(denoiser, set(labels.tolist()))


def _share_embedding(denoiser: Denoiser, learned: set[int]) -> None:
    """Sets the embedding of every class that was not learned to that of the null class, which is in
    every training, as labels are dropped at random.
    """
    rows: Tensor = denoiser.unet.get_submodule("class_embedding").weight  # type: ignore[assignment]
    with torch.no_grad():
        for row in set(range(len(rows))) - learned:
            rows[row] = rows[denoiser.null_label]


def _describe(denoiser: Denoiser, images: PublicImages, work: Workplace) -> None:
    """Sets the prior of every class to the moments of public images, at most 10,000 of them."""
    assert denoiser.prior is not None
    pixels, _ = images.draw(min(len(images), N_DESCRIBED), work.generator(501))
    cosines = Cosines(denoiser.config.shape, denoiser.config.prior_bands)
    mean, covariance, outside = moments_of(pixels, cosines)
    n = denoiser.n_classes
    spread = float(outside.clamp_min(0).sqrt())
    denoiser.prior.set(mean.expand(n, -1), covariance.expand(n, -1, -1), spread)
