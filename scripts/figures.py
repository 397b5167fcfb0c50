"""The README's picture: real digits, and a student's at two epsilons.

    python scripts/figures.py --out assets/digits.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from dpgen import DPSAD, Budget, Images, open_images
from dpgen.data.sources import read_images
from dpgen.evaluation.grid import grid

ROWS, GAP, HEADER = 8, 24, 30


def panel(images: Images, title: str) -> Image.Image:
    """One column per class, `ROWS` images each, under a title."""
    rows = torch.cat([torch.nonzero(images.labels == c)[:ROWS, 0] for c in range(10)])
    picture = Image.fromarray(grid(Images(images.pixels[rows], images.labels[rows]), 10, n_columns=ROWS).squeeze(-1).numpy())
    whole = Image.new("L", (picture.width, picture.height + HEADER), 255)
    whole.paste(picture, (0, HEADER))
    ImageDraw.Draw(whole).text((4, 6), title, fill=0, font=ImageFont.load_default(16))
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    panels = [panel(read_images("digits", split="train"), "real")]
    for epsilon in (10.0, 1.0):
        generator = DPSAD(budget=Budget(epsilon, 1e-4)).fit(open_images("digits"), seed=0, show=True)
        stated = generator.privacy["guarantee"]["epsilon"]
        images = generator.sample(10 * ROWS, generator=torch.Generator().manual_seed(0))
        panels.append(panel(images, f"synthetic, epsilon {stated:g}, 4 steps"))
    width = sum(p.width for p in panels) + GAP * (len(panels) - 1)
    whole = Image.new("L", (width, panels[0].height), 255)
    left = 0
    for part in panels:
        whole.paste(part, (left, 0))
        left += part.width + GAP
    args.out.parent.mkdir(parents=True, exist_ok=True)
    whole.save(args.out)


if __name__ == "__main__":
    main()
