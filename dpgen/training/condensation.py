r"""Condensation: fits the images of a small set to released mean embeddings, without data.

For feature maps phi_1 .. phi_m, released means T_k,y and the images x_1 .. x_n of class y in the
set, the mean over y of

    sum_k  || w_k^(1/2) (1/n sum_i phi_k(x_i)  -  T_k,y) ||^2

is the squared maximum mean discrepancy between the images and the records of the class, up to the
noise of the release, for a kernel in which features that are mostly noise weigh little. It is
lowered by gradient descent on the pixels. `condense` is post-processing of the release.

Source: Zhang, Li, Wang, Zeng, Ge (2024), "M3D: Dataset Condensation by Minimizing Maximum Mean
Discrepancy", AAAI 2024, arXiv 2312.15927; Gretton et al. (2012), "A Kernel Two-Sample Test", for
the discrepancy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dpgen.networks.condensed import Condensed
from dpgen.networks.ema import EMA
from dpgen.runs.checkpoint import Checkpoints, TrainingState
from dpgen.training.loop import Kept, training_steps

LABEL = "condensed"  # name of the saved state
DARK, SPREAD = -1.0, 0.5  # mean and deviation of the weights at the start: dim noise
PART = 1000  # images that a feature map sees at once
WARM_UP = 20  # steps in which the learning rate rises


class Target(NamedTuple):
    """What the images are fitted to under one feature map.

    Args:
        features: the map phi, (B, C, H, W) -> (B, d).
        means: T, the released means of its features, (K, d).
        weights: w, how much each feature weighs, (d,), at least 0.
    """

    features: Callable[[Tensor], Tensor]
    means: Tensor
    weights: Tensor

    def to(self, device: torch.device) -> Target:
        """Returns the same in float32 on a device; the map follows the device of the images."""
        return Target(self.features, self.means.float().to(device), self.weights.float().to(device))


def discrepancy(features: Tensor, means: Tensor, weights: Tensor) -> Tensor:
    """Computes the mean over classes of the weighted squared distance between mean features of
    images and released means, scalar.

    Args:
        features: phi of n images of each class, (K, n, d).
        means: T, (K, d).
        weights: w, (d,).
    """
    return ((features.mean(1) - means).square() @ weights).mean()


def _in_parts(phi: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Computes the features of images, (B, d). Of more than a part what lies between images and
    features is computed again for the gradient, so that memory holds that of one part.
    """
    parts = images.split(PART)
    if len(parts) == 1:
        return phi(images)
    found = [checkpoint(phi, part, use_reentrant=False) for part in parts]
    return torch.cat(found)


def condense(
    network: Condensed,
    targets: Sequence[Target],
    *,
    n_steps: int,
    learning_rate: float,
    generator: torch.Generator,
    device: torch.device,
    checkpoints: Checkpoints | None,
    show: bool,
) -> None:
    """Fits the images, in place, from dim noise on. A resumed run ends with exactly the images of
    an uninterrupted one.

    Args:
        network: the set; it ends on the CPU.
        targets: what the images are fitted to.
        n_steps: steps of Adam, each with all images.
        learning_rate: of the weights, whose tanh are the images.
        generator: CPU generator of the first images.
        device: where it computes.
        checkpoints: where its state is saved; None saves nothing.
        show: a progress bar.
    """
    with torch.no_grad():
        start = torch.randn(network.weights.shape, generator=generator)
        network.weights.copy_(DARK + SPREAD * start)
    network.to(device)
    targets = [target.to(device) for target in targets]
    adam = torch.optim.Adam(network.parameters(), lr=learning_rate, betas=(0.9, 0.99))
    ema = EMA(network, 0.9, warm_up=True)
    state = TrainingState({"set": network, "average": ema}, {"set": adam})
    kept = None if checkpoints is None else Kept(LABEL, checkpoints, state)
    shape = (network.n_classes, network.n_distinct)
    for step in training_steps("condensed set", n_steps, network, ema, show=show, kept=kept):
        decay = 0.02 + 0.49 * (1 + math.cos(math.pi * step / n_steps))
        for group in adam.param_groups:
            group["lr"] = learning_rate * min(1.0, (step + 1) / WARM_UP) * decay
        images = network().flatten(0, 1)
        terms = [
            discrepancy(_in_parts(phi, images).unflatten(0, shape), means, weights)
            for phi, means, weights in targets
        ]
        adam.zero_grad()
        torch.stack(terms).sum().backward()
        adam.step()
    network.cpu()
