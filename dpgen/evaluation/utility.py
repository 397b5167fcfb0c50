"""Train on synthetic, test on real: how useful the images are to somebody who wants a classifier.

The protocol is the metric. It is fixed in `UtilityProtocol`, the same for every method and every
reference, and is reported with the accuracy. Images pass through uint8 first, as they do in every
file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpgen.data.images import Images, to_float, to_uint8
from dpgen.networks.classifier import MLP, Classifier

__all__ = [
    "Utility",
    "UtilityProtocol",
    "accuracy",
    "accuracy_per_class",
    "train_classifier",
    "utility",
]

NETWORKS: dict[str, Callable[[tuple[int, int, int], int], Classifier | MLP]] = {
    "cnn": Classifier,
    "mlp": MLP,
}
TEST_BATCH = 512  # images per forward pass; changes an accuracy by float rounding at most


@dataclass(frozen=True)
class UtilityProtocol:
    """The recipe: AdamW, cosine decay to zero, no augmentation, the weights of the last step.

    The length is counted in steps, not epochs, so that sets of different sizes are trained alike
    and cost the same.

    Args:
        network: ``"cnn"`` or ``"mlp"``.
        n_steps: optimiser steps.
        batch_size: images per step; a set with fewer is taken whole at every step.
        learning_rate: of the first step.
        weight_decay: of AdamW.
        n_train: at most this many images are used, drawn by the seed; ``None``: all.
    """

    network: str = "cnn"
    n_steps: int = 1000
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    n_train: int | None = None

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise ValueError(f"network must be one of {', '.join(NETWORKS)}, got {self.network!r}")
        for name in ("n_steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay}")
        if self.n_train is not None and self.n_train < 1:
            raise ValueError(f"n_train must be at least 1 or None, got {self.n_train}")


@dataclass(frozen=True)
class Utility:
    """Accuracy on the reference of a classifier that has seen only the synthetic images.

    ``per_class[k]`` is None when the reference has no image of class k.
    """

    accuracy: float
    per_class: tuple[float | None, ...]
    n_train: int
    n_test: int
    seed: int
    protocol: UtilityProtocol


def utility(
    synthetic: Images,
    reference: Images,
    n_classes: int,
    *,
    seed: int,
    protocol: UtilityProtocol = UtilityProtocol(),  # noqa: B008 - frozen
) -> Utility:
    """Trains on ``synthetic``, tests on ``reference``.

    Guarantees: the reference has no influence on the classifier; deterministic given the seed, on
    the same machine; leaves torch's global random state as it was.

    Args:
        synthetic: the images to learn from.
        reference: real images, of the same shape.
        n_classes: number of classes of both.
        seed: initial weights, choice and order of the images.
        protocol: the recipe.
    """
    if synthetic.pixels.shape[1:] != reference.pixels.shape[1:]:
        raise ValueError(
            f"synthetic and reference images must have one shape, got "
            f"{tuple(synthetic.pixels.shape[1:])} and {tuple(reference.pixels.shape[1:])}"
        )
    _check(reference, n_classes, "reference")
    module = train_classifier(synthetic, n_classes, seed=seed, protocol=protocol)
    n_synthetic = synthetic.labels.shape[0]
    return Utility(
        accuracy=accuracy(module, reference),
        per_class=accuracy_per_class(module, reference, n_classes),
        n_train=min(n_synthetic, protocol.n_train or n_synthetic),
        n_test=reference.labels.shape[0],
        seed=seed,
        protocol=protocol,
    )


def train_classifier(
    images: Images,
    n_classes: int,
    *,
    seed: int,
    protocol: UtilityProtocol = UtilityProtocol(),  # noqa: B008 - frozen
) -> Classifier | MLP:
    """A classifier of ``images`` by the recipe, in eval mode.

    Guarantees: deterministic given the seed, on the same machine; leaves torch's global random
    state as it was. A class that never occurs is no error: a generator that forgets it
    pays in the accuracy.

    Args:
        images: what to learn, at least one.
        n_classes: number of classes; labels lie in [0, n_classes).
        seed: initial weights, choice and order of the images.
        protocol: the recipe.
    """
    _check(images, n_classes, "images")
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        channels, height, width = images.pixels.shape[1:]
        module = NETWORKS[protocol.network]((channels, height, width), n_classes)
    chosen = torch.randperm(images.labels.shape[0], generator=generator)[: protocol.n_train]
    pixels, labels = to_uint8(images.pixels[chosen]), images.labels[chosen]
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=protocol.learning_rate, weight_decay=protocol.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, protocol.n_steps)
    order = torch.empty(0, dtype=torch.int64)
    batch_size = min(protocol.batch_size, len(labels))
    for _ in range(protocol.n_steps):
        if len(order) < batch_size:
            order = torch.randperm(len(labels), generator=generator)
        batch, order = order[:batch_size], order[batch_size:]
        loss = functional.cross_entropy(module(to_float(pixels[batch])), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return module.eval()


def accuracy(module: nn.Module, images: Images) -> float:
    """The fraction of ``images`` that ``module`` gives its largest logit at their label."""
    return _hits(module, images).double().mean().item()


def accuracy_per_class(
    module: nn.Module, images: Images, n_classes: int
) -> tuple[float | None, ...]:
    """`accuracy` on the images of each class; None for a class without images."""
    hits = _hits(module, images).double()
    of_class = [hits[images.labels == label] for label in range(n_classes)]
    return tuple(part.mean().item() if len(part) else None for part in of_class)


@torch.no_grad()
def _hits(module: nn.Module, images: Images) -> Tensor:
    batches = to_uint8(images.pixels).split(TEST_BATCH)
    predicted = torch.cat([module(to_float(batch)).argmax(dim=1) for batch in batches])
    return predicted == images.labels


def _check(images: Images, n_classes: int, name: str) -> None:
    pixels, labels = images
    if pixels.ndim != 4 or labels.shape != pixels.shape[:1] or len(labels) < 1:
        raise ValueError(
            f"{name} must be pixels (N, C, H, W) and labels (N,) with N of at least 1, got "
            f"{tuple(pixels.shape)} and {tuple(labels.shape)}"
        )
    if not 0 <= int(labels.min()) <= int(labels.max()) < n_classes:
        raise ValueError(
            f"labels of {name} must lie in [0, {n_classes}), "
            f"got {int(labels.min())} to {int(labels.max())}"
        )
