"""Grids of many images in one picture, a row per class; and several grids side by side."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from einops import rearrange, repeat
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dpgen.images.images import Images, to_uint8
from dpgen.storage.durable import replace_durably

__all__ = ["grid", "save_grid", "save_panels"]

MARGIN = 2  # pixels between two images, after magnification
MARGIN_VALUE = 255
TITLE_HEIGHT, PANEL_GAP = 30, 24  # pixels
MAGNIFY_BELOW = 64  # images with a smaller longer side are magnified by a whole number up to it


def grid(images: Images, n_classes: int, *, n_columns: int = 10) -> Tensor:
    """Arranges the first ``n_columns`` images of each class in one uint8 picture, (H, W, C).

    Row k holds class k in the order of the images; a class with too few leaves blanks. With a
    single class the images fill as many rows as they need, at most ten. Small images are magnified
    by repeating pixels, never smoothed.

    Args:
        images: the images to show; pixels (N, C, H, W) with C 1 or 3.
        n_classes: number of classes, 1 without classes.
        n_columns: images per row, at least 1.
    """
    if n_columns < 1:
        raise ValueError(f"n_columns must be at least 1, got {n_columns}")
    if images.pixels.ndim != 4 or images.pixels.shape[1] not in (1, 3) or len(images.labels) < 1:
        raise ValueError(
            "images must have pixels (N, C, H, W) with N of at least 1 and C 1 or 3, "
            f"got {tuple(images.pixels.shape)}"
        )
    if not 0 <= int(images.labels.min()) <= int(images.labels.max()) < n_classes:
        raise ValueError(
            f"labels must lie in [0, {n_classes}), "
            f"got {int(images.labels.min())} to {int(images.labels.max())}"
        )
    if n_classes == 1:
        n_shown = min(len(images.labels), 10 * n_columns)
        rows = list(torch.arange(n_shown).split(n_columns))
    else:
        rows = [(images.labels == k).nonzero().flatten()[:n_columns] for k in range(n_classes)]
    channels, height, width = images.pixels.shape[1:]
    magnification = max(1, MAGNIFY_BELOW // max(height, width))
    cell_height, cell_width = (magnification * side + MARGIN for side in (height, width))
    picture = torch.full(
        (channels, len(rows) * cell_height + MARGIN, n_columns * cell_width + MARGIN),
        MARGIN_VALUE,
        dtype=torch.uint8,
    )
    for i, row in enumerate(rows):
        top = MARGIN + i * cell_height
        for j, image in enumerate(to_uint8(images.pixels[row])):
            left = MARGIN + j * cell_width
            large = repeat(image, "c h w -> c (h m) (w n)", m=magnification, n=magnification)
            picture[:, top : top + large.shape[1], left : left + large.shape[2]] = large
    return rearrange(picture, "c h w -> h w c")


def n_preview(n_classes: int) -> int:
    """Returns the number of images in the preview of a run: ten per class, of at most ten classes.
    """
    return min(10 * n_classes, max(20, 10 * min(n_classes, 10)))


def png(images: Images, n_classes: int, *, n_columns: int = 10) -> bytes:
    """Encodes the `grid` as a PNG file; arguments as there."""
    content = BytesIO()
    _picture(images, n_classes, n_columns).save(content, format="png")
    return content.getvalue()


def _picture(images: Images, n_classes: int, n_columns: int) -> Image.Image:
    pixels = np.ascontiguousarray(grid(images, n_classes, n_columns=n_columns).numpy())
    return Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)


def save_grid(images: Images, path: str | Path, n_classes: int, *, n_columns: int = 10) -> None:
    """Writes `grid` to ``path`` in the format its suffix names (``.png``).

    Args:
        images: what to show.
        path: the file to write or replace; its folder exists.
        n_classes: number of classes, 1 without classes.
        n_columns: images per row.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"path must end in .png (pictures without loss), got {path.name!r}")
    _save(_picture(images, n_classes, n_columns), path)


def save_panels(
    panels: Mapping[str, Images], path: str | Path, n_classes: int, *, n_columns: int = 8
) -> None:
    """Writes one `grid` per entry, side by side under their names, to a PNG file.

    Args:
        panels: title and images; the same classes in each.
        path: the file to write or replace; its folder exists.
        n_classes: number of classes, 1 without classes.
        n_columns: images per row of each panel.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"path must end in .png (pictures without loss), got {path.name!r}")
    grids = [grid(images, n_classes, n_columns=n_columns).numpy() for images in panels.values()]
    width = sum(g.shape[1] for g in grids) + PANEL_GAP * (len(grids) - 1)
    picture = Image.new("RGB", (width, TITLE_HEIGHT + max(g.shape[0] for g in grids)), "white")
    pen, left = ImageDraw.Draw(picture), 0
    for title, g in zip(panels, grids, strict=True):
        one = Image.fromarray(g.squeeze(-1) if g.shape[-1] == 1 else g)
        picture.paste(one.convert("RGB"), (left, TITLE_HEIGHT))
        pen.text((left + 4, 6), title, fill="black", font=ImageFont.load_default(16))
        left += g.shape[1] + PANEL_GAP
    _save(picture, path)


def _save(picture: Image.Image, path: Path) -> None:
    """Saves a picture completely or not at all, also if the disk fills up."""
    content = BytesIO()
    picture.save(content, format="png")
    replace_durably(path, content.getvalue())
