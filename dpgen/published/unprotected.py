"""Trains on raw records, without clip and without noise, as the published algorithms do.

It is only for modes whose privacy claim is not verified, the permanent negative controls. Its
results are plain functions of private records.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dpgen.images.images import Images, PublicFacts
from dpgen.networks.denoiser import Denoiser, DenoiserConfig
from dpgen.networks.ema import EMA
from dpgen.privacy.mechanisms.contributions import Records
from dpgen.published.settings import preset_for
from dpgen.runs.context import Workplace
from dpgen.training.loop import training_steps

# (images, labels and rows of a batch, its generator) -> loss of each record, (B,)
BatchLoss = Callable[[Tensor, Tensor, Tensor, torch.Generator], Tensor]


class Schedule(NamedTuple):
    """How long and how fast a network is fitted.

    name: title of the progress bar.
    n_steps: training steps.
    batch: records per step.
    learning_rate: learning rate of Adam.
    ema_decay: decay of the averaged weights.
    """

    name: str
    n_steps: int
    batch: int
    learning_rate: float
    ema_decay: float


def untrained(preset: str | None, facts: PublicFacts, seed: int) -> Denoiser:
    """Makes an untrained network from public randomness; without a preset, of the size for the
    shape.
    """
    size = preset_for(preset, facts)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Denoiser(DenoiserConfig.preset(size, facts.shape, facts.n_classes))


def read_all(records: Records) -> Images:
    """Reads every record with a label among the declared classes into memory."""
    pixels, labels, valid = records.read(np.arange(records.n_slots))
    if not valid.any():
        raise ValueError("no record has a label among the declared classes")
    return Images(pixels[valid], labels[valid])


def batch_of(
    images: Images, size: int, generator: torch.Generator, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws rows with replacement; returns their images, labels and positions (on the CPU)."""
    rows = torch.randint(len(images.labels), (size,), generator=generator)
    return images.pixels[rows].to(device), images.labels[rows].to(device), rows


def fit(
    network: nn.Module,
    images: Images,
    loss_fn: BatchLoss,
    schedule: Schedule,
    work: Workplace,
) -> None:
    """Fits the network, in place, to raw records; it ends with averaged weights."""
    accelerator, generator = work.accelerator, work.generator(1)
    optimizer = torch.optim.Adam(network.parameters(), lr=schedule.learning_rate)
    ema = EMA(network, schedule.ema_decay, warm_up=True)
    for _ in training_steps(schedule.name, schedule.n_steps, network, ema, show=work.show):
        x, y, rows = batch_of(images, schedule.batch, generator, accelerator.device)
        loss = loss_fn(x, y, rows, generator).mean()
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
