"""Fits a decoder to the pictures of a released spectrum, without data.

A spectrum (`dpgen.networks.spectral`) holds class Gaussians and draws from them, but nothing in it
can be trained. The decoder learns to draw alike: mean Fourier features of many pictures of each
class stand where a sketch has released ones (`dpgen.training.matching`). The pictures are drawn
from released moments, so that the decoder is post-processing of them (theorem A3): it costs no
privacy, and the features are as many as one likes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from dpgen.networks.decoder import Decoder
from dpgen.networks.fixed.fourier import FourierFeatures
from dpgen.networks.spectral import SpectralPictures
from dpgen.runs.context import Workplace, multiplies_halves
from dpgen.training.imitation_settings import ImitationSettings
from dpgen.training.matching import match

LABEL = "imitation"  # name of the saved state
PART = 250  # pictures drawn at once


def imitate(
    decoder: Decoder, pictures: SpectralPictures, settings: ImitationSettings, work: Workplace
) -> Decoder:
    """Fits the decoder, in place, until its images have the features of the pictures, class by
    class, and returns it on the CPU.

    Args:
        decoder: untrained, of the same shape and classes.
        pictures: draws what is imitated; released, and not changed.
        settings: the numbers.
        work: where it computes, and the seed of all randomness.
    """
    def fitted() -> Mapping[str, Tensor]:
        generator, device = work.generator(560), work.accelerator.device
        features = features_of(settings, pictures.config.shape)
        means = class_means(pictures, features, settings.n_pictures, generator)
        match(
            decoder.to(device), [(features, means)], n_steps=settings.n_steps,
            n_per_class=settings.n_per_class, learning_rate=settings.learning_rate,
            generator=generator, half=multiplies_halves(device), show=work.show,
            title="decoder, of moments",
        )  # fmt: skip
        return decoder.cpu().state_dict()

    decoder.load_state_dict(work.checkpoints.once(LABEL, fitted))
    return decoder.cpu().eval().requires_grad_(False)


def features_of(settings: ImitationSettings, shape: tuple[int, int, int]) -> FourierFeatures:
    """Returns the features in which images (C, H, W) and pictures are to agree."""
    return FourierFeatures(math.prod(shape), settings.n_frequencies, settings.bandwidths)


def class_means(
    pictures: SpectralPictures, features: FourierFeatures, n_pictures: int,
    generator: torch.Generator,
) -> Tensor:  # fmt: skip
    """Returns mean features (K, D) of pictures of each class, float64.

    Args:
        n_pictures: of all classes together, at least one of each.
    """
    n_classes = pictures.config.n_classes
    sums = torch.zeros(n_classes, features.n_features, dtype=torch.float64)
    labels = torch.arange(n_pictures) % n_classes
    for part in labels.split(PART):
        sums.index_add_(0, part, features(pictures.draw(part, generator)).double())
    return sums / labels.bincount(minlength=n_classes)[:, None]
