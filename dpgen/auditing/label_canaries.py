"""Reserved-label canaries: each is the only record of a class of its own, in or out by a coin.

Only that record teaches the network what its class looks like, so anyone with the weights can
sample the class and see whether the record was in the data. The game runs the whole of `fit` with
the production settings and uses only what it released: the strongest game at model level.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from dpgen.auditing.silos import silos_of_settings
from dpgen.auditing.stand_ins import StandIns, neighbours
from dpgen.data.private import PrivateDataset
from dpgen.images.images import PublicFacts, to_float

SIGMAS = (0.5, 1.0, 2.0, 4.0)
N_NOISES = 4  # noise draws per noise level, the same for every class
N_OTHERS = 8  # reserved classes that a canary is compared with


class Fits(Protocol):
    networks: Mapping[str, nn.Module]

    def fit(self, data: PrivateDataset, *, out: Path, seed: int, show: bool) -> Any: ...  # noqa: ANN401


def with_canaries(facts: PublicFacts, m: int) -> PublicFacts:
    """Returns the facts with ``m`` reserved classes after their own."""
    names = tuple(f"reserved {i}" for i in range(m))
    return replace(facts, class_names=(*facts.class_names, *names))


def label_canary_scores(
    make: Callable[[], Fits],
    facts: PublicFacts,
    coins: np.ndarray,
    *,
    seed: int = 0,
    show: bool = False,
) -> np.ndarray:
    """Trains once with the canaries whose coin is True, and scores all of them.

    Under replace-one the other canaries are in the data as well, as their negatives.

    Args:
        make: makes a fresh generator.
        facts: public facts without reserved classes.
        coins: (m,) bool, m at least 2.
        seed: seed of canaries and the run's public randomness; private noise never comes from it.
        show: whether to show progress bars.

    Returns:
        (m,) float64, larger where the canary seems to be in.
    """
    if coins.dtype != bool or coins.ndim != 1 or len(coins) < 2:
        raise ValueError(
            "coins must be a row of at least 2 truth values, as canaries are compared, got "
            f"{coins.dtype} of shape {coins.shape}"
        )
    m, replaced = len(coins), facts.adjacency == "replace_one"
    generator = torch.Generator().manual_seed(seed)
    base, _ = neighbours(facts, seed)
    pixels = torch.randint(0, 256, (m, *facts.shape), generator=generator).to(torch.uint8)
    labels, included = facts.n_classes + torch.arange(m), torch.from_numpy(coins)
    there = torch.where(included.reshape(-1, 1, 1, 1), pixels, 255 - pixels)
    kept = torch.ones_like(included) if replaced else included
    full = with_canaries(facts, m)
    source = StandIns(
        torch.cat([base.pixels, there[kept]]),
        torch.cat([base.labels, labels[kept]]),
        full.class_names,
    )
    with tempfile.TemporaryDirectory() as place:
        fitted = make()
        data = PrivateDataset(replace(source, silos=silos_of_settings(fitted)), facts=full)
        fitted.fit(data, out=Path(place) / "run", seed=seed, show=show)
    network = fitted.networks.get("teacher", fitted.networks["model"])
    images = to_float(pixels)
    own = _errors(network, images, labels, seed)
    if replaced:
        return (_errors(network, -images, labels, seed) - own).numpy()
    shifts = range(1, min(N_OTHERS, m - 1) + 1)
    others = [_errors(network, images, labels.roll(-shift), seed) for shift in shifts]
    return (torch.stack(others).mean(0) - own).numpy()


@torch.no_grad()
def _errors(network: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
    """Computes the mean squared denoising error of each image under these labels, (m,) float64."""
    generator = torch.Generator().manual_seed(seed + 1)
    noises = torch.randn(len(SIGMAS) * N_NOISES, *images.shape[1:], generator=generator)
    sigmas = torch.tensor(SIGMAS).repeat_interleave(N_NOISES)
    errors = torch.zeros(len(images), dtype=torch.float64)
    for sigma, noise in zip(sigmas, noises, strict=True):
        denoised = network(images + sigma * noise, sigma.expand(len(images)), labels)
        errors += (denoised - images).square().flatten(1).mean(1) / sigma**2
    return errors
