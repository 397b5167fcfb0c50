"""The README's picture: real digits, and a student's at two epsilons.

    python scripts/figures.py --out assets/digits.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from dpgen import DPSAD, Budget, open_images
from dpgen.data.sources import read_images
from dpgen.images.grid import save_panels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    panels = {"real": read_images("digits", split="train")}
    for epsilon in (10.0, 1.0):
        generator = DPSAD(budget=Budget(epsilon, 1e-4))
        generator.fit(open_images("digits"), seed=0, show=True)
        stated = generator.privacy["guarantee"]["epsilon"]
        images = generator.sample(80, generator=torch.Generator().manual_seed(0))
        panels[f"synthetic, epsilon {stated:g}, 4 steps"] = images
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_panels(panels, args.out, 10)


if __name__ == "__main__":
    main()
