"""Images as tensors; beside them the facts about a data set, from `dpgen.images.facts`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from dpgen.images.facts import PublicFacts, check_class_names

__all__ = ["Images", "PublicFacts", "check_class_names", "to_float", "to_uint8"]


class Images(NamedTuple):
    """A set of images with their labels.

    pixels: (N, C, H, W), float32 in [-1, 1].
    labels: (N,), int64; all zero when there are no classes.
    """

    pixels: Tensor
    labels: Tensor

    @classmethod
    def joined(cls, blocks: Iterable[Images]) -> Images:
        """Joins the images of the blocks, in their order."""
        pixels, labels = zip(*blocks, strict=True)
        return cls(torch.cat(pixels), torch.cat(labels))


def to_float(pixels: Tensor) -> Tensor:
    """Maps uint8 pixels to float32 in [-1, 1]: x = u / 127.5 - 1, any shape."""
    if pixels.dtype != torch.uint8:
        raise ValueError(f"pixels must be uint8, got {pixels.dtype}")
    return pixels.to(torch.float32) / 127.5 - 1


def to_uint8(pixels: Tensor) -> Tensor:
    """Maps float pixels to uint8: u = round((x + 1) * 127.5), clipped to 0..255.

    Guarantees: ``to_uint8(to_float(u)) == u``. Values outside [-1, 1] are clipped, since generated
    pixels overshoot; NaN and infinity are refused.
    """
    if not pixels.is_floating_point():
        raise ValueError(f"pixels must be floating point, got {pixels.dtype}")
    if not torch.isfinite(pixels).all():
        raise ValueError("pixels must be finite numbers, got NaN or infinity")
    return ((pixels.to(torch.float32) + 1) * 127.5).round_().clamp_(0, 255).to(torch.uint8)
