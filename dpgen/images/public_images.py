"""Images that whoever runs a training declares public."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from dpgen.images.images import to_float
from dpgen.storage.canonical import canonical


def pixels_sha256(pixels: Tensor) -> str:
    """Computes the SHA-256 of the line ``N C H W`` and of all pixels, (N, C, H, W) uint8, image by
    image, channel by channel, row by row.
    """
    found = hashlib.sha256(" ".join(map(str, pixels.shape)).encode() + b"\n")
    for part in pixels.split(1024):
        found.update(part.contiguous().numpy().tobytes())
    return found.hexdigest()


@dataclass(frozen=True, eq=False)
class PublicImages:
    """Images from which a network may learn before the private stages. Nobody checks that they are
    public.

    Args:
        name: their name, as a certificate states it.
        pixels: (N, C, H, W), uint8, of the shape of the private images.
        labels: (N,), int64; all zero without classes.
        class_names: one per class, in label order; ``("all",)`` without classes.
    """

    name: str
    pixels: Tensor
    labels: Tensor
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws images with replacement: pixels (n, C, H, W), float32 in [-1, 1], labels (n,)."""
        rows = torch.randint(len(self), (n,), generator=generator)
        return to_float(self.pixels[rows]), self.labels[rows]

    @cached_property
    def sha256(self) -> str:
        """Returns `pixels_sha256` of all pixels as they are learned from."""
        return pixels_sha256(self.pixels)

    def shared_classes(self, class_names: Sequence[str]) -> list[str]:
        """Returns the classes that have the name of one of these, in their own order."""
        return [name for name in self.class_names if name in class_names]

    def labels_among(self, class_names: Sequence[str]) -> Tensor:
        """Returns the labels (N,) as positions in these names; ``len(class_names)``, the null
        class, for an image of a class that is not among them.
        """
        null = len(class_names)
        places = [class_names.index(n) if n in class_names else null for n in self.class_names]
        return torch.tensor(places)[self.labels]

    def labels_sha256(self, class_names: Sequence[str]) -> str:
        """Returns the SHA-256 of `labels_among` these names, as a JSON list."""
        labels = self.labels_among(class_names).tolist()
        return hashlib.sha256(canonical(labels).encode()).hexdigest()
