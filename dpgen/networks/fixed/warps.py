"""Small random warps of images, and their mirror images, which encode the public knowledge that
these do not change the class. There are no changes of brightness.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def warp(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Rotates, scales, shears, shifts and bends each image by random amounts of its own.

    At strength 1: rotation up to 0.15 rad, scale 12 % per axis, shear 0.15, shift 9 % of half a
    side, and a bend of 6 % of half a side (standard deviation, on a 5x5 grid). It is differentiable
    in the images. Pixels from outside repeat the border.

    Args:
        images: (B, C, H, W), on the CPU or the generator's device.
        strength: factor of all amounts, at least 0; 0 returns the images.
        generator: source of all amounts.
    """
    if not strength >= 0:
        raise ValueError(f"strength must be at least 0, got {strength}")
    if strength == 0:
        return images
    b, _, h, w = images.shape

    def within(size: float) -> Tensor:
        return (torch.rand(b, generator=generator) * 2 - 1) * size * strength

    angle, across, down, shear = within(0.15), 1 + within(0.12), 1 + within(0.12), within(0.15)
    cos, sin = angle.cos(), angle.sin()
    affine = torch.stack(
        [
            torch.stack([cos * across, shear - sin * down, within(0.09)], 1),
            torch.stack([sin * across, cos * down, within(0.09)], 1),
        ],
        1,
    )
    where = functional.affine_grid(affine, list(images.shape), align_corners=False)
    bends = torch.randn(b, 2, 5, 5, generator=generator) * 0.06 * strength
    bends = functional.interpolate(bends, size=(h, w), mode="bicubic", align_corners=True)
    where = (where + bends.permute(0, 2, 3, 1)).to(images)
    return functional.grid_sample(images, where, padding_mode="border", align_corners=False)


def mirrored(images: Tensor, generator: torch.Generator) -> Tensor:
    """Exchanges left and right of about half of the images, (B, C, H, W), chosen at random."""
    chosen = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(chosen[:, None, None, None].to(images.device), images.flip(-1), images)


def augmented(
    images: Tensor, strength: float, mirrors: bool, generator: torch.Generator
) -> Tensor:
    """Warps images, (B, C, H, W), and mirrors half of them if ``mirrors``."""
    images = warp(images, strength, generator)
    return mirrored(images, generator) if mirrors else images
