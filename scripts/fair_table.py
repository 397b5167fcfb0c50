"""Fair and unfair samples of one private run on digits whose group goes with their target.

Target: whether a digit is odd. Group: whether its colours are inverted, which 85 % of the odd
digits of the training records are, and 15 % of the even ones. Of the held-out digits half of both
are, so that a classifier that takes inversion for a sign of being odd is found out.

    python scripts/fair_table.py OUT    # a few minutes on two cores; everything lies in OUT
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import torch

from dpgen.data.export import write_images
from dpgen.data.sources import read_images
from dpgen.images.images import Images

CLASSES = ("even_plain", "odd_plain", "even_inverted", "odd_inverted")
SKEW = {"train": 0.85, "test": 0.5}
FAIR = "".join("{2} = [{0!r}, {1!r}]\n".format(*name.split("_"), name) for name in CLASSES)
SETS = {"as-released": ("--labels", "released"), "fair": ("--fair", "fair.toml")}


def coloured(split: str) -> Images:
    """Returns the digits of a split, inverted by chance as `SKEW` says."""
    digits = read_images("digits", split=split)
    odd = digits.labels % 2
    chance = torch.where(odd == 1, SKEW[split], 1 - SKEW[split])
    inverted = torch.rand(len(odd), generator=torch.Generator().manual_seed(0)) < chance
    sign = torch.where(inverted, -1.0, 1.0)[:, None, None, None]
    return Images(digits.pixels * sign, odd + 2 * inverted.long())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epsilon", default="10")
    parser.add_argument("--samples", default="2000")
    given = parser.parse_args()
    out: Path = given.out
    out.mkdir(parents=True)
    for split in SKEW:
        images = coloured(split)
        write_images(
            [images], out / "data" / split, format="folder", n_images=len(images.labels),
            class_names=CLASSES, certificate=None,
        )  # fmt: skip
    (out / "fair.toml").write_text(f"[classes]\n{FAIR}")

    def dpgen(*words: str) -> None:
        subprocess.run([sys.executable, "-m", "dpgen", *words, "-q"], cwd=out, check=True)

    dpgen("train", "pge", "--set", "mode=sketch", "--data", "data", "--epsilon", given.epsilon,
          "--out", "run", "--seed", "0", "-y")  # fmt: skip
    for name, options in SETS.items():
        dpgen("sample", "run", "-n", given.samples, "--out", name, "--seed", "0", "--format", "npz",
              *options)  # fmt: skip
    dpgen("evaluate", *SETS, "--reference", "data", "--fair", "fair.toml", "--features", "none",
          "--seeds", "3", "--json", "scores.json")  # fmt: skip


if __name__ == "__main__":
    main()
