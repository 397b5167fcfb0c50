"""Train on synthetic, test on real: how useful the images are for training a classifier.

The protocol is the metric. It is fixed in `UtilityProtocol`, the same for every method and every
reference, and is reported with the accuracy. Images pass through uint8 first, as they do in every
file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpgen.images.images import Images, to_float, to_uint8
from dpgen.networks.classifier import MLP, Classifier, Logistic
from dpgen.networks.resnet import ResNet
from dpgen.networks.seeding import seeded
from dpgen.progress import progress_bar

__all__ = [
    "FAST",
    "FULL",
    "Utility",
    "UtilityProtocol",
    "accuracy",
    "confused",
    "confusion",
    "logits_of",
    "recalls",
    "train_classifier",
    "utility",
]

NETWORKS: dict[str, Callable[[tuple[int, int, int], int], nn.Module]] = {
    "logistic": Logistic,
    "mlp": MLP,
    "cnn": Classifier,
    "resnet": partial(ResNet, widths=(64, 128, 256, 512)),
    "wide-resnet": partial(ResNet, widths=(64, 128, 256), stem=16),
}
# What differs from the defaults of `UtilityProtocol`. The full tier wants a GPU.
RECIPES: dict[str, dict[str, Any]] = {
    "resnet": {"n_steps": 4000, "learning_rate": 1e-3},
    "wide-resnet": {"n_steps": 4000, "learning_rate": 1e-3},
}
# What differs where the reference has few real images, as on two cores a thousand steps on colour
# images of 32x32 take four minutes. On splits of the training records of the digits, of X-rays and
# of CIFAR-10, 576 to 1,200 to learn from, a quarter of the steps gave the same accuracy, by noise.
FEW_RECORDS = 1250  # below it there are few; it is just above four fifths of 1,500
FEW: dict[str, dict[str, Any]] = {"cnn": {"n_steps": 250}}
FAST = ("logistic", "mlp", "cnn")
FULL = (*FAST, "resnet", "wide-resnet")
TEST_BATCH = 512  # images per forward pass; changes an accuracy by float rounding at most


@dataclass(frozen=True)
class UtilityProtocol:
    """The recipe: AdamW, cosine decay to zero, no augmentation, the weights of the last step.

    The length is counted in steps, not epochs, so that sets of different sizes are trained alike
    and cost the same. It is shorter where the reference has few real images (`FEW`).

    Args:
        network: a key of `NETWORKS`; `of` gives its fixed recipe.
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

    @classmethod
    def of(cls, network: str, n_records: int | None = None) -> UtilityProtocol:
        """Returns the recipe of a network: the defaults, changed by `RECIPES` and, where there are
        few real images to learn from, by `FEW`.

        Args:
            network: a key of `NETWORKS`.
            n_records: real images of the reference's training split, a public number; one recipe is
                taken for all sets that are compared with them. None: many.
        """
        own = RECIPES.get(network, {})
        if n_records is not None and n_records < FEW_RECORDS:
            own = own | FEW.get(network, {})
        return cls(network=network, **own)

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise ValueError(f"network must be one of {', '.join(NETWORKS)}, got {self.network!r}")
        for name in ("n_steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be positive and finite, got {self.learning_rate}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(
                f"weight_decay must be finite and not negative, got {self.weight_decay}"
            )
        if self.n_train is not None and self.n_train < 1:
            raise ValueError(f"n_train must be at least 1 or None, got {self.n_train}")


@dataclass(frozen=True)
class Utility:
    """Accuracy on the reference of a classifier that has seen only the synthetic images.

    ``per_class[k]`` is None when the reference has no image of class k; ``confusion[k][j]`` images
    of class k were taken for class j.
    """

    accuracy: float
    per_class: tuple[float | None, ...]
    confusion: tuple[tuple[int, ...], ...]
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
    device: torch.device | str = "cpu",
    show: bool = False,
    label: str | None = None,
    trained: nn.Module | None = None,
) -> Utility:
    """Trains on ``synthetic``, tests on ``reference``.

    Guarantees: the reference has no influence on the classifier; deterministic given the seed, on
    the same CPU (a GPU sums in no fixed order); leaves torch's global random state as it was.

    Args:
        synthetic: the images to learn from.
        reference: real images, of the same shape.
        n_classes: number of classes of both.
        seed: initial weights, choice and order of the images.
        protocol: the recipe.
        device: where the classifier is trained and tested.
        show: a progress bar.
        label: of the progress bar; None: after the network.
        trained: what `train_classifier` returned for the same images, seed and recipe, where it has
            been called already; None: train it.
    """
    if synthetic.pixels.shape[1:] != reference.pixels.shape[1:]:
        raise ValueError(
            f"synthetic and reference images must have one shape, got "
            f"{tuple(synthetic.pixels.shape[1:])} and {tuple(reference.pixels.shape[1:])}"
        )
    _check(reference, n_classes, "reference")
    module = trained
    if module is None:
        module = train_classifier(
            synthetic, n_classes, seed=seed, protocol=protocol, device=device, show=show,
            label=label,
        )  # fmt: skip
    n_synthetic = synthetic.labels.shape[0]
    table = confusion(module.to(device), reference, n_classes)
    return Utility(
        accuracy=int(table.trace()) / int(table.sum()),
        per_class=recalls(table),
        confusion=tuple(tuple(row) for row in table.tolist()),
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
    device: torch.device | str = "cpu",
    show: bool = False,
    label: str | None = None,
) -> nn.Module:
    """Trains a classifier of ``images`` by the recipe; it is returned in eval mode.

    Guarantees: deterministic given the seed, on the same CPU (a GPU sums in no fixed order); leaves
    torch's global random state as it was. A class that never occurs is no error: a generator that
    forgets it pays in the accuracy.

    Args:
        images: what to learn, at least one.
        n_classes: number of classes; labels lie in [0, n_classes).
        seed: initial weights, choice and order of the images.
        protocol: the recipe.
        device: where it is trained; the result lies on the CPU.
        show: a progress bar.
        label: of the progress bar; None: after the network.
    """
    _check(images, n_classes, "images")
    generator = torch.Generator().manual_seed(seed)
    with seeded(seed):
        channels, height, width = images.pixels.shape[1:]
        module = NETWORKS[protocol.network]((channels, height, width), n_classes).to(device)
    chosen = torch.randperm(images.labels.shape[0], generator=generator)[: protocol.n_train]
    pixels, labels = to_uint8(images.pixels[chosen]), images.labels[chosen]
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=protocol.learning_rate, weight_decay=protocol.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, protocol.n_steps)
    order = torch.empty(0, dtype=torch.int64)
    batch_size = min(protocol.batch_size, len(labels))
    label = f"classifier, {protocol.network}" if label is None else label
    with progress_bar(label, protocol.n_steps, show=show) as advance:
        for _ in range(protocol.n_steps):
            if len(order) < batch_size:
                order = torch.randperm(len(labels), generator=generator)
            batch, order = order[:batch_size], order[batch_size:]
            x, y = to_float(pixels[batch]).to(device), labels[batch].to(device)
            loss = functional.cross_entropy(module(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            advance()
    return module.eval().cpu()


def accuracy(module: nn.Module, images: Images) -> float:
    """Returns the fraction of ``images`` for which the largest logit is at their label."""
    return (_predicted(module, images) == images.labels).double().mean().item()


def confusion(module: nn.Module, images: Images, n_classes: int) -> Tensor:
    """Counts the images of each class (row) that were taken for each class (column), int64 (K,
    K).
    """
    return confused(_predicted(module, images), images, n_classes)


def confused(predicted: Tensor, images: Images, n_classes: int) -> Tensor:
    """Counts as `confusion` does, from the classes that the images were taken for, (N,)."""
    _check(images, n_classes, "images")
    if int(predicted.max()) >= n_classes:
        raise ValueError(
            f"n_classes must cover what the module predicts, class {int(predicted.max())}, "
            f"got {n_classes}"
        )
    pairs = images.labels * n_classes + predicted
    return torch.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def recalls(table: Tensor) -> tuple[float | None, ...]:
    """Returns the share of each class that was taken for it, from the table of `confusion`; None
    for a class without images.
    """
    return tuple(
        int(row[k]) / int(row.sum()) if row.sum() else None for k, row in enumerate(table)
    )


@torch.no_grad()
def logits_of(module: nn.Module, images: Images) -> Tensor:
    """Computes the logits of images, (N, K), on the module's device, and returns them on the CPU.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    batches = to_uint8(images.pixels).split(TEST_BATCH)
    return torch.cat([module(to_float(batch).to(device)) for batch in batches]).cpu()


def _predicted(module: nn.Module, images: Images) -> Tensor:
    return logits_of(module, images).argmax(dim=1)


def _check(images: Images, n_classes: int, name: str) -> None:
    pixels, labels = images.pixels, images.labels
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
