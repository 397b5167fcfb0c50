"""Samples in blocks, each from a seed of its own: how many are asked for changes no image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor

from dpgen.data.images import Images
from dpgen.networks.denoiser import Denoiser
from dpgen.networks.proposer import Proposer
from samplers import Annealed
from samplers.types import Sampler

BLOCK = 256  # images drawn under one seed


def draw_blocks(
    network: Denoiser,
    labels: Tensor,
    sampler: Sampler,
    seed: int,
    guidance: float = 0.0,
    device: torch.device | str = "cpu",
    proposer: Proposer | None = None,
) -> Iterator[Images]:
    """Samples for ``labels``, `BLOCK` at a time, block k from its own seed.

    Args:
        proposer: draws the images at which a sampler that can `refine` starts, instead of noise.
    """
    network = network.to(device)
    for block, first in enumerate(range(0, len(labels), BLOCK)):
        part = labels[first : first + BLOCK].to(device)
        rng = torch.Generator().manual_seed((seed + block * 0x9E3779B97F4A7C15) % 2**63)
        # The whole block's noise, whatever of it is wanted: how many are asked for changes no
        # image.
        noise = torch.randn(BLOCK, *network.config.shape, generator=rng)[: len(part)].to(device)
        own = torch.Generator(device=device).manual_seed(rng.initial_seed() ^ 1)
        score_fn = network.score_fn(part, guidance)
        with torch.no_grad():
            if proposer is None:
                pixels = sampler(score_fn, noise, generator=own)
            else:
                start = proposer.draw(_whole(part.cpu(), first, network.n_classes), rng)
                start = start[: len(part)].to(device)
                pixels = cast(Annealed, sampler).refine(score_fn, start, generator=own)
        yield Images(pixels.float().clamp(-1, 1).cpu(), part.cpu())


def _whole(labels: Tensor, first: int, n_classes: int) -> Tensor:
    """The labels of a whole block, of which ``labels`` begin at image ``first``: going on as labels
    do that nobody chose."""
    more = torch.arange(first + len(labels), first + BLOCK) % n_classes
    return torch.cat([labels, more])
