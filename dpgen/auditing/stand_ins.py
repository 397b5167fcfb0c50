"""Public records that stand in for private ones, and neighbouring sets of them."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dpgen.images.images import Images, PublicFacts, to_float
from dpgen.privacy.mechanisms.silos import Silos

N_RECORDS = 16


@dataclass(frozen=True)
class StandIns:
    """A `Source` of made-up records.

    Args:
        pixels: (N, C, H, W) uint8.
        labels: (N,) int64, possibly out of the range of the classes.
        class_names: class names of the data set that they stand in for.
        silos: silos of the data set that they stand in for; each record names one of them.
    """

    pixels: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    silos: Silos | None = None
    kind = "stand-ins"
    public = True

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(self.pixels.shape[1:])  # type: ignore[return-value]

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor]:
        rows = torch.as_tensor(np.asarray(indices, dtype=np.int64))
        return self.pixels[rows], self.labels[rows]

    def silo_of(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns the number of the silo of each of these records, (B,) int64, by its own pixels
        and label.
        """
        if self.silos is None:
            raise TypeError("these records have no silos")
        contents = [
            self.pixels[i].numpy().tobytes() + bytes([int(self.labels[i]) % 256])
            for i in np.asarray(indices, dtype=np.int64).tolist()
        ]
        return np.array(
            [zlib.crc32(content) % len(self.silos.names) for content in contents], dtype=np.int64
        )

    def raw_records(self) -> Iterator[tuple[np.ndarray, int]]:
        for image, label in zip(self.pixels, self.labels, strict=True):
            yield image.permute(1, 2, 0).numpy(), int(label)

    def ending_in(self, pixels: Tensor, label: int, *, replace: bool) -> StandIns:
        """Returns these records with one more at the end, or with another one in place of the last.
        """
        kept = slice(None, -1 if replace else None)
        return dataclasses.replace(
            self,
            pixels=torch.cat([self.pixels[kept], pixels[None]]),
            labels=torch.cat([self.labels[kept], torch.tensor([label])]),
        )


def neighbours(facts: PublicFacts, seed: int) -> tuple[StandIns, dict[str, StandIns]]:
    """Makes a set of stand-ins and its neighbours by name, under the relation that the facts state:
    the last record is added, or replaces another.

    The differing record is one that exposes leaks: extreme, opposed to all others, a copy of
    another, alone in its class, or of a class that was never declared.
    """
    generator = torch.Generator().manual_seed(seed)
    shape, n_classes = facts.shape, facts.n_classes
    # Smooth images: a few pixels, enlarged. No record has the last class, if there are two.
    pixels = _smooth(shape, generator)
    labels = torch.arange(N_RECORDS) % max(1, n_classes - 1)
    base = StandIns(pixels, labels, facts.class_names)
    checks = 255 * (torch.arange(shape[1])[:, None] + torch.arange(shape[2])) % 510
    noise = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    records = {
        "white": (torch.full(shape, 255, dtype=torch.uint8), 0),
        "black": (torch.zeros(shape, dtype=torch.uint8), 0),
        "checks, alone in its class": (checks.to(torch.uint8).expand(shape), n_classes - 1),
        "noise": (noise, 0),
        "copy of another record": (pixels[0], int(labels[0])),
        "negative of another record": (255 - pixels[0], int(labels[0])),
        "of no declared class": (noise, n_classes),
    }
    replace = facts.adjacency == "replace_one"
    return base, {
        name: base.ending_in(image, label, replace=replace)
        for name, (image, label) in records.items()
    }


def public_stand_ins(facts: PublicFacts, seed: int) -> Images:
    """Makes images that stand in for public ones from which a run starts, none of which is among
    the stand-ins of its records or their neighbours.
    """
    generator = torch.Generator().manual_seed(seed + 1)
    labels = torch.arange(N_RECORDS) % facts.n_classes
    return Images(to_float(_smooth(facts.shape, generator)), labels, facts.class_names)


def _smooth(shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    coarse = torch.rand(N_RECORDS, shape[0], 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=shape[1:], mode="bilinear")
    return (255 * smooth).round().to(torch.uint8)
