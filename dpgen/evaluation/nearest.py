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

from dpgen.images.images import Images, to_uint8
from dpgen.progress import progress_bar

__all__ = ["Copying", "Nearest", "copying", "nearest", "save_nearest"]

CHUNK = 2048  # rows of either side whose distances are held at once
SPARE = 8  # candidates beyond k, so that rounding loses none
SAME = 1e-4  # of the training records' spread: float32 features of one image differ by less
QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)
MAGNIFY_BELOW, GAP, CAPTION = 64, 6, 14  # pixels


class Nearest(NamedTuple):
    """The nearest others of each row, nearest first. indices (M, k) int64, distances (M, k)."""

    indices: Tensor
    distances: Tensor


def nearest(
    rows: Tensor, others: Tensor, *, k: int, label: str = "nearest records", show: bool = False
) -> Nearest:
    """Finds the k nearest of ``others`` to each of ``rows``, by Euclidean distance.

    Guarantees: distances are norms of differences in float64, so equal rows are at distance zero;
    memory O(CHUNK^2 + (CHUNK + N) D).

    Args:
        rows: features (M, D).
        others: features (N, D).
        k: from 1 to N.
        label: of the progress bar.
        show: a progress bar.
    """
    if rows.ndim != 2 or others.ndim != 2 or rows.shape[1] != others.shape[1]:
        raise ValueError(
            f"features must be (M, D) and (N, D), got {tuple(rows.shape)} and {tuple(others.shape)}"
        )
    if not 1 <= k <= len(others):
        raise ValueError(f"k must lie in [1, {len(others)}], the number of records, got {k}")
    for name, part in (("rows", rows), ("others", others)):
        # A distance that is no number is smaller than nothing: a copy would go unseen.
        if not torch.isfinite(part).all():
            raise ValueError(f"features of {name} must be finite numbers, got NaN or infinity")
    # The quick distances subtract squares, which cancel: float64, about a common centre.
    centre = others.double().mean(0)
    records = others.double() - centre
    found, parts = [], rows.split(CHUNK)
    with progress_bar(label, len(parts), show=show) as advance:
        for part in parts:
            found.append(_nearest(part.double() - centre, records, k))
            advance()
    return Nearest(
        torch.cat([part.indices for part in found]), torch.cat([part.distances for part in found])
    )


def _nearest(rows: Tensor, others: Tensor, k: int) -> Nearest:
    """Finds candidates by fast distances, chunk by chunk, and computes their exact distances."""
    n_kept = min(k + SPARE, len(others))
    distances, start = rows.new_empty(len(rows), 0), 0
    indices = torch.empty(len(rows), 0, dtype=torch.int64, device=rows.device)
    for part in others.split(CHUNK):
        places = torch.arange(start, start + len(part), device=rows.device)
        distances = torch.cat([distances, torch.cdist(rows, part)], dim=1)
        indices = torch.cat([indices, places.expand(len(rows), -1)], dim=1)
        distances, best = distances.topk(min(n_kept, distances.shape[1]), largest=False)
        indices, start = indices.gather(1, best), start + len(part)
    exact = torch.stack([(rows - others[column]).norm(dim=1) for column in indices.T], dim=1)
    distances, best = exact.sort(dim=1)
    return Nearest(indices.gather(1, best)[:, :k], distances[:, :k])


@dataclass(frozen=True)
class Copying:
    """Distances to the nearest training record: of samples, and of real images that were held out,
    which is what is natural.

    samples: (M,); held_out: (H,). Zero where an image has the features of a training record.
    """

    samples: Tensor
    held_out: Tensor

    def share(self, quantile: float = 0.01) -> float:
        """Returns the share of samples that are as near to a training record as that quantile of
        held-out images.

        About ``quantile`` for a generator that knows the distribution and no record: with H
        held-out images (1 + (H - 1) quantile) / (H + 1) on average. Where held-out images repeat
        training records in that share, it is the share of samples that do.
        """
        if not 0 < quantile < 1:
            raise ValueError(f"quantile must lie in (0, 1), got {quantile}")
        return float((self.samples <= self.held_out.quantile(quantile)).double().mean())

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON values: quantiles of both, shares, and that they are private."""
        at = torch.tensor(QUANTILES, dtype=torch.float64)
        return {
            "private": True,
            "quantiles": list(QUANTILES),
            "samples": self.samples.quantile(at).tolist(),
            "held_out": self.held_out.quantile(at).tolist(),
            "share_nearer_than_quantile": {str(q): self.share(q) for q in QUANTILES},
            "n_samples": len(self.samples),
            "n_held_out": len(self.held_out),
            "n_samples_at_zero": int((self.samples == 0).sum()),
            "n_held_out_at_zero": int((self.held_out == 0).sum()),
        }


def copying(
    samples: Tensor, training: Tensor, held_out: Tensor, *, show: bool = False
) -> Copying:
    """Measures the distances of samples and held-out images to the training records, from features
    (., D).

    A distance below SAME times the training records' root mean square distance from their mean is
    rounding and counts as zero. Held-out images of which half or more repeat training records are
    refused: beside them every generator looks honest.
    """
    if len(held_out) < 2 or len(samples) < 1:
        raise ValueError(
            f"copying needs samples and at least 2 held-out images, got {len(samples)} and "
            f"{len(held_out)}"
        )
    ours, natural = (
        nearest(rows, training, k=1, label=f"distances, {name}", show=show).distances[:, 0]
        for name, rows in (("synthetic", samples), ("held out", held_out))
    )
    spread = (training.double() - training.double().mean(0)).square().sum(1).mean().sqrt()
    ours, natural = (d.where(d > SAME * spread, torch.zeros_like(d)) for d in (ours, natural))
    n_same = int((natural == 0).sum())
    if 2 * n_same >= len(natural):
        raise ValueError(
            f"held-out images must be none that the generator learned, but {n_same} of "
            f"{len(natural)} have the features of a training record: take another split"
        )
    return Copying(ours, natural)


def save_nearest(
    path: str | Path, samples: Images, training: Images, found: Nearest, *, n_rows: int = 10
) -> None:
    """Writes a picture: a row a sample, the sample first, then its nearest training records with
    their distances.

    Args:
        path: ending in .png; its folder exists. What it shows is private.
        samples, training: the images that ``found`` speaks of.
        n_rows: samples shown, the first ones; at least 1.
    """
    path = Path(path)
    if n_rows < 1:
        raise ValueError(f"n_rows must be at least 1, got {n_rows}")
    shape, other = tuple(samples.pixels.shape[1:]), tuple(training.pixels.shape[1:])
    if shape != other or shape[0] not in (1, 3):
        raise ValueError(
            "samples and training images must have one shape, with 1 or 3 channels, got "
            f"{shape} and {other}"
        )
    if len(found.indices) > len(samples.pixels):
        raise ValueError(
            f"found must speak of at most the {len(samples.pixels)} samples, got "
            f"{len(found.indices)}"
        )
    if path.suffix.lower() != ".png":
        raise ValueError(f"path must end in .png (pictures without loss), got {path.name!r}")
    k, n_rows = found.indices.shape[1], min(n_rows, len(found.indices))
    height, width = shape[1:]
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
    """Magnifies one image (C, H, W) by repeating pixels."""
    array = to_uint8(pixels[None])[0].permute(1, 2, 0).numpy()
    array = np.ascontiguousarray(array.repeat(scale, 0).repeat(scale, 1))
    return Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array)
