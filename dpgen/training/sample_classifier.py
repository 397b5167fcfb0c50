"""Trains a small classifier on drawn images: post-processing of the releases behind them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dpgen.networks.perceptual import PerceptualNetwork
from dpgen.progress import progress_bar


def train_on_samples(
    network: PerceptualNetwork, pixels: Tensor, labels: Tensor, *, n_steps: int,
    generator: torch.Generator, show: bool,
) -> PerceptualNetwork:  # fmt: skip
    """Trains the network, in place, and returns it on the CPU.

    Args:
        network: the classifier, on the device of the images.
        pixels: drawn images, (N, C, H, W) in [-1, 1].
        labels: their classes, (N,), int64.
        n_steps: steps of AdamW, with 128 images each; the learning rate falls to 0.
        generator: CPU generator of the choice of images.
        show: a progress bar.
    """
    adam = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, n_steps)
    with progress_bar("features of samples", n_steps, show=show) as advance:
        for _ in range(n_steps):
            rows = torch.randint(len(labels), (128,), generator=generator).to(pixels.device)
            loss = functional.cross_entropy(network(pixels[rows]), labels[rows])
            adam.zero_grad()
            loss.backward()
            adam.step()
            schedule.step()
            advance()
    return network.cpu()
