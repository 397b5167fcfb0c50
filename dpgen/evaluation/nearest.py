"""Nearest records: does a generator copy? A picture, and two distributions of distances.

Everything here reads private records and is as private as they are: no epsilon covers it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dpgen.data.images import Images, to_uint8

__all__ = ["Copying", "Nearest", "copying", "nearest", "save_nearest"]

CHUNK = 1024  # rows whose distances are held at once
QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)
MAGNIFY_BELOW, GAP, CAPTION = 64, 6, 14  # pixels


class Nearest(NamedTuple):
    """Of each row: the nearest others, nearest first. indices (M, k) int64, distances (M, k)."""

    indices: Tensor
    distances: Tensor


def nearest(rows: Tensor, others: Tensor, *, k: int) -> Nearest:
    """The k nearest of ``others`` to each of ``rows``, by Euclidean distance; memory O(CHUNK N).

    Args:
        rows: features (M, D).
        others: features (N, D).
        k: from 1 to N.
    """
    if rows.ndim != 2 or others.ndim != 2 or rows.shape[1] != others.shape[1]:
        raise ValueError(
            f"features must be (M, D) and (N, D), got {tuple(rows.shape)} and "
            f"{tuple(others.shape)}"
        )
    if not 1 <= k <= len(others):
        raise ValueError(f"k must lie in [1, {len(others)}], the number of records, got {k}")
    # Squares of large numbers that cancel: float64, about a common centre.
    centre = others.double().mean(0)
    found = [
        torch.cdist(part.double() - centre, others.double() - centre).topk(k, largest=False)
        for part in rows.split(CHUNK)
    ]
    return Nearest(
        torch.cat([part.indices for part in found]), torch.cat([part.values for part in found])
    )


@dataclass(frozen=True)
class Copying:
    """Distances to the nearest training record: of samples, and of real images that were held out,
    which is what is natural.

    samples: (M,); held_out: (H,).
    """

    samples: Tensor
    held_out: Tensor

    def share(self, quantile: float = 0.01) -> float:
        """The share of samples nearer to a training record than that quantile of held-out images:
        about ``quantile`` for a generator that knows the distribution and no record.
        """
        if not 0 < quantile < 1:
            raise ValueError(f"quantile must lie in (0, 1), got {quantile}")
        return float((self.samples < self.held_out.quantile(quantile)).double().mean())

    def to_dict(self) -> dict[str, Any]:
        """JSON values: quantiles of both, shares, and that they are private."""
        at = torch.tensor(QUANTILES, dtype=torch.float64)
        return {
            "private": True,
            "quantiles": list(QUANTILES),
            "samples": self.samples.quantile(at).tolist(),
            "held_out": self.held_out.quantile(at).tolist(),
            "share_nearer_than_quantile": {str(q): self.share(q) for q in QUANTILES},
            "n_samples": len(self.samples),
            "n_held_out": len(self.held_out),
        }


def copying(samples: Tensor, training: Tensor, held_out: Tensor) -> Copying:
    """Distances of samples and held-out images to the training records, from features (., D)."""
    if len(held_out) < 2 or len(samples) < 1:
        raise ValueError(
            f"copying needs samples and at least 2 held-out images, got {len(samples)} and "
            f"{len(held_out)}"
        )
    ours, natural = (nearest(rows, training, k=1).distances[:, 0] for rows in (samples, held_out))
    return Copying(ours, natural)


def save_nearest(
    path: str | Path, samples: Images, training: Images, found: Nearest, *, n_rows: int = 10
) -> None:
    """Writes a picture: a row a sample, the sample first, then its nearest training records with
    their distances.

    Args:
        path: ending in .png; its folder exists. What it shows is private.
        samples, training: the images that ``found`` speaks of.
        n_rows: samples shown, the first ones.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"path must end in .png (pictures without loss), got {path.name!r}")
    k, n_rows = found.indices.shape[1], min(n_rows, len(found.indices))
    height, width = samples.pixels.shape[2:]
    scale = max(1, MAGNIFY_BELOW // max(height, width))
    across, down = scale * width + GAP, scale * height + CAPTION + GAP
    picture = Image.new("RGB", ((k + 1) * across + 3 * GAP, n_rows * down + CAPTION + GAP), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(11)
    pen.text((GAP, 2), "sample", fill="black", font=font)
    pen.text((across + 3 * GAP, 2), "nearest records, private", fill="black", font=font)
    for i in range(n_rows):
        top = CAPTION + GAP + i * down
        picture.paste(_large(samples.pixels[i], scale), (GAP, top))
        for j, (index, distance) in enumerate(
            zip(found.indices[i].tolist(), found.distances[i].tolist(), strict=True)
        ):
            left = (j + 1) * across + 3 * GAP
            picture.paste(_large(training.pixels[index], scale), (left, top))
            below = (left, top + scale * height)
            pen.text(below, f"{distance:.3g}", fill="black", font=font)
    picture.save(path)


def _large(pixels: Tensor, scale: int) -> Image.Image:
    """One image (C, H, W), magnified by repeating pixels."""
    array = to_uint8(pixels[None])[0].permute(1, 2, 0).numpy()
    array = np.ascontiguousarray(array.repeat(scale, 0).repeat(scale, 1))
    return Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array)
