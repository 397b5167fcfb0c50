"""The table of all networks that compute each record by itself.

Every network in `NETWORKS` is tested for the requirements of private training: no statistic across
records, and per-record gradients, by ``vmap(grad)`` and by layers, that equal a loop over records.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from dpgen.networks.classifier import MLP, Classifier
from dpgen.networks.denoiser import Denoiser, DenoiserConfig
from dpgen.networks.discriminator import Discriminator


class Network(NamedTuple):
    """A network in the table.

    build: makes it from (shape, n_classes).
    inputs: the arguments of its ``forward``, in order: ``image`` (B, C, H, W), ``pair``
        (B, 2 C, H, W), ``sigma`` (B,) or ``label`` (B,).
    """

    build: Callable[[tuple[int, int, int], int], nn.Module]
    inputs: tuple[str, ...]


NETWORKS = {
    "denoiser-tiny": Network(
        lambda shape, n_classes: Denoiser(DenoiserConfig.preset("tiny", shape, n_classes)),
        ("image", "sigma", "label"),
    ),
    "denoiser-with-prior": Network(
        lambda shape, n_classes: Denoiser(
            DenoiserConfig.preset("tiny", shape, n_classes, prior_bands=6)
        ),
        ("image", "sigma", "label"),
    ),
    "denoiser-fed-with-prior": Network(
        lambda shape, n_classes: Denoiser(
            DenoiserConfig.preset("tiny", shape, n_classes, prior_bands=6, prior_input=True)
        ),
        ("image", "sigma", "label"),
    ),
    "denoiser-small": Network(
        lambda shape, n_classes: Denoiser(DenoiserConfig.preset("small", shape, n_classes)),
        ("image", "sigma", "label"),
    ),
    "denoiser-base": Network(
        lambda shape, n_classes: Denoiser(DenoiserConfig.preset("base", shape, n_classes)),
        ("image", "sigma", "label"),
    ),
    "discriminator": Network(Discriminator, ("pair", "sigma", "label")),
    "classifier": Network(Classifier, ("image",)),
    "mlp": Network(MLP, ("image",)),
}
