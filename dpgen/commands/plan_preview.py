"""Shows what `sketch.augment` or `condensed.augment` does, on public pictures: `dpgen plan
--preview FILE`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from dpgen.data.sources import read_images
from dpgen.images.grid import save_panels
from dpgen.images.images import Images
from dpgen.networks.fixed.dead_leaves import dead_leaves
from dpgen.networks.fixed.warps import augmented
from dpgen.stages.augment import AUGMENTS

N_PICTURES, N_COLUMNS = 16, 4


def save_plan_preview(settings: Any, shape: tuple[int, int, int], path: Path) -> None:  # noqa: ANN401
    """Writes a picture of public images of this shape under every value of ``sketch.augment`` or
    ``condensed.augment``: the embedded digits where images are grey, procedural pictures else. No
    record is read.

    Args:
        settings: resolved settings of a method.
        shape: (C, H, W).
        path: a file that ends in .png.

    Raises:
        ValueError: the settings have no sketch.
    """
    groups = (settings, getattr(settings, "teacher", None))
    found = [getattr(group, name, None) for group in groups for name in ("sketch", "condensed")]
    changed_by = next((one for one in found if one is not None), None)
    if changed_by is None:
        raise ValueError(
            "--preview shows what sketch.augment does, and these settings have no sketch: drop it, "
            "or plan pge with --set mode=sketch"
        )
    pictures, labels = _public(shape), torch.zeros(N_PICTURES, dtype=torch.int64)
    panels = {}
    for value in AUGMENTS:
        mark = " (set)" if value == changed_by.augment else ""
        tried = replace(changed_by, augment=value)
        generator = torch.Generator().manual_seed(0)
        changed = augmented(pictures, tried.warps, tried.mirrors, generator)
        panels[value + mark] = Images(changed, labels)
    save_panels(panels, path, 1, n_columns=N_COLUMNS)


def _public(shape: tuple[int, int, int]) -> Tensor:
    if shape[0] != 1:
        return dead_leaves(N_PICTURES, shape, torch.Generator().manual_seed(0))
    digits = read_images("digits", split="train").pixels[:N_PICTURES]
    return interpolate(digits, shape[1:], mode="bicubic", antialias=True).clamp(-1, 1)
