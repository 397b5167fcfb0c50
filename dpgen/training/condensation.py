r"""Condensation: fits the images of a small set to released mean embeddings, without data.

For feature maps phi_1 .. phi_m, released means T_k,y and the images x_1 .. x_n of class y in the
set, the mean over y of

    sum_k  || w_k^(1/2) (1/n sum_i phi_k(a(x_i))  -  T_k,y) ||^2

is the squared maximum mean discrepancy between the images, changed at random by a, and the records
of the class, up to the noise of the release, for a kernel in which features that are mostly noise
weigh little. It is lowered by gradient descent. There are far more pixels than released numbers, so
the fit is told what images are like: it descends on numbers u_i of which the pixels are smooth
functions, x = tanh(c A u A^T + b), A a Gaussian blur of rows or columns, and every other step draws
changes a anew, so that an image stands for all that it may be changed to; at the others a(x) = x,
so that the images have the embeddings as they are, too. `condense` is post-processing of the
release.

Source: Zhang, Li, Wang, Zeng, Ge (2024), "M3D: Dataset Condensation by Minimizing Maximum Mean
Discrepancy", AAAI 2024, arXiv 2312.15927; Gretton et al. (2012), "A Kernel Two-Sample Test", for
the discrepancy; Zhao, Bilen (2021), "Dataset Condensation with Differentiable Siamese
Augmentation", ICML 2021, arXiv 2102.08259, for changes within the fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dpgen.networks.condensed import Condensed
from dpgen.networks.ema import EMA
from dpgen.networks.fixed.warps import augmented
from dpgen.networks.hidden_features import placed
from dpgen.runs.checkpoint import Checkpoints, TrainingState
from dpgen.training.loop import Kept, training_steps

DARK, SPREAD = -1.0, 0.5  # mean and deviation of the weights at the start: dim noise
PART = 1000  # images that a feature map sees at once
WARM_UP = 20  # steps in which the learning rate rises


class Changes(NamedTuple):
    """The random changes of images within the fit.

    Args:
        warp: strength of the warps; 0 leaves them out.
        mirror: whether about half of the images are mirrored.
    """

    warp: float = 0.0
    mirror: bool = False

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Changes images, (B, C, H, W), differentiable in them."""
        return augmented(images, self.warp, self.mirror, generator)


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
        """Returns the same in float32 on a device; fixed maps follow the device of the images."""
        means, weights = self.means.float().to(device), self.weights.float().to(device)
        return Target(placed(self.features, device), means, weights)


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


class Smooth(nn.Module):
    """Weights of a set that are smooth functions of as many numbers.

    Args:
        shape: (K, n, C, h, w), of the weights of the set.
        width: standard deviation of the Gaussian blur, as a part of the shorter side; 0 for none.
    """

    down: Tensor
    across: Tensor

    def __init__(self, shape: Sequence[int], width: float) -> None:
        super().__init__()
        sides = shape[-2:]
        down, across = (blur(side, width * min(sides)) for side in sides)
        self.register_buffer("down", down, persistent=False)
        self.register_buffer("across", across.T.contiguous(), persistent=False)
        self.numbers = nn.Parameter(torch.zeros(*shape))

    @torch.no_grad()
    def begin(self, generator: torch.Generator) -> None:
        """Sets the numbers to noise."""
        self.numbers.copy_(SPREAD * torch.randn(self.numbers.shape, generator=generator))

    def forward(self) -> Tensor:
        """Computes the weights, (K, n, C, h, w)."""
        return self.down @ self.numbers @ self.across + DARK


def blur(side: int, width: float) -> Tensor:
    """Returns the blur of a row of ``side`` pixels, (side, side): Gaussian of standard deviation
    ``width`` pixels, scaled so that each pixel of blurred white noise has variance one.
    """
    if width == 0:
        return torch.eye(side)
    place = torch.arange(side, dtype=torch.float64)
    weights = torch.exp(-((place[:, None] - place).square()) / (2 * width**2))
    return (weights / weights.norm(dim=1, keepdim=True)).float()


def condense(
    network: Condensed,
    targets: Sequence[Target],
    *,
    name: str,
    n_steps: int,
    learning_rate: float,
    smooth: float,
    changes: Changes,
    generator: torch.Generator,
    device: torch.device,
    checkpoints: Checkpoints | None,
    show: bool,
) -> None:
    """Fits the images, in place, from dim noise on. A resumed run ends with exactly the images of
    an uninterrupted one.

    Args:
        network: the set, on the CPU.
        targets: what the images are fitted to.
        name: of the saved state and the progress bar.
        n_steps: steps of Adam, each with all images.
        learning_rate: of the numbers behind the weights, whose tanh are the images.
        smooth: standard deviation of the blur of the weights, as a part of the shorter side.
        changes: how images are changed at every other step.
        generator: CPU generator of the first images and of the changes.
        device: where it computes.
        checkpoints: where its state is saved; None saves nothing.
        show: a progress bar.
    """
    behind = Smooth(network.weights.shape, smooth)
    behind.begin(generator)
    behind.to(device)
    targets = [target.to(device) for target in targets]
    adam = torch.optim.Adam(behind.parameters(), lr=learning_rate, betas=(0.9, 0.99))
    ema = EMA(behind, 0.9, warm_up=True)
    state = TrainingState({"set": behind, "average": ema}, {"set": adam}, {"changes": generator})
    kept = None if checkpoints is None else Kept(name, checkpoints, state)
    shape = (network.n_classes, network.n_distinct)
    for step in training_steps(name, n_steps, behind, ema, show=show, kept=kept):
        decay = 0.02 + 0.49 * (1 + math.cos(math.pi * step / n_steps))
        for group in adam.param_groups:
            group["lr"] = learning_rate * min(1.0, (step + 1) / WARM_UP) * decay
        images = network.images_of(behind()).flatten(0, 1)
        if step % 2:
            images = changes(images, generator)
        terms = [
            discrepancy(_in_parts(phi, images).unflatten(0, shape), means, weights)
            for phi, means, weights in targets
        ]
        adam.zero_grad()
        torch.stack(terms).sum().backward()
        adam.step()
    with torch.no_grad():
        network.weights.copy_(behind())
