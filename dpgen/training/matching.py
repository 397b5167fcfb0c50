r"""Moment matching: fits a decoder to released mean embeddings of the classes, without data.

For a feature map phi, released means T_y and images x_1 .. x_n of class y from the decoder, the
mean over y of

    1 / (n (n - 1)) sum_{i != j} phi(x_i) . phi(x_j)  -  2 / n sum_i phi(x_i) . T_y

is, up to the constant ||T_y||^2, an unbiased estimate of the squared maximum mean discrepancy. Its
first term leaves the diagonal out: with it, ||mean phi - T||^2 would also reward images that are
all alike. The estimates of several feature maps are added. `match` is post-processing of the
releases.

Reference: Gretton et al. (2012), "A Kernel Two-Sample Test", lemma 6; Li, Swersky, Zemel (2015),
"Generative Moment Matching Networks", arXiv 1502.02761.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dpgen.networks.decoder import Decoder
from dpgen.networks.ema import EMA
from dpgen.training.loop import training_steps

Embedding = tuple[Callable[[Tensor], Tensor], Tensor]
"""A feature map, (B, C, H, W) -> (B, D), and the released means of its features, (K, D)."""


def unbiased_mmd(features: Tensor, means: Tensor) -> Tensor:
    """Computes the mean over classes of the estimate above, scalar.

    Args:
        features: phi of n images of each class, (K, n, D), n at least 2.
        means: T, (K, D).
    """
    n = features.shape[1]
    if n < 2:
        raise ValueError(f"features must be of at least 2 images a class, got {n}")
    total = features.sum(1)
    pairs = (total.square().sum(1) - features.square().sum((1, 2))) / (n * (n - 1))
    return (pairs - 2 * (total * means).sum(1) / n).mean()


def match(
    decoder: Decoder,
    embeddings: Sequence[Embedding],
    *,
    n_steps: int,
    n_per_class: int,
    learning_rate: float,
    generator: torch.Generator,
    half: bool,
    show: bool,
    title: str,
) -> None:
    """Fits the decoder, in place; it ends with averaged weights.

    Args:
        embeddings: feature maps, which take images on the decoder's device, and released means.
        generator: CPU generator of all randomness.
        half: whether the networks compute in bfloat16; weights, Fourier features and the loss stay
            float32.
    """
    n_classes, device = decoder.config.n_classes, next(decoder.parameters()).device
    labels = torch.arange(n_classes, device=device).repeat_interleave(n_per_class)
    targets = [(phi, means.float().to(device)) for phi, means in embeddings]
    adam = torch.optim.Adam(decoder.parameters(), lr=learning_rate, betas=(0.9, 0.99))
    ema = EMA(decoder, 0.995, warm_up=True)
    for step in training_steps(title, n_steps, decoder, ema, show=show):
        decay = 0.02 + 0.49 * (1 + math.cos(math.pi * step / n_steps))
        for group in adam.param_groups:
            group["lr"] = learning_rate * min(1.0, (step + 1) / 50) * decay
        z = torch.randn(len(labels), decoder.config.n_latents, generator=generator)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            x = decoder(z.to(device), labels)
            features = [phi(x) for phi, _ in targets]
        terms = [
            unbiased_mmd(found.float().unflatten(0, (n_classes, n_per_class)), means)
            for found, (_, means) in zip(features, targets, strict=True)
        ]
        adam.zero_grad()
        torch.stack(terms).sum().backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        adam.step()
