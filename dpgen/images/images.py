"""Images as tensors; beside them the facts about a data set, from `dpgen.images.facts`."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, cast, overload

import torch
from torch import Tensor

from dpgen.images.facts import PublicFacts, check_class_names

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Images", "PublicFacts", "check_class_names", "to_float", "to_uint8"]


@dataclass(frozen=True, eq=False, repr=False)
class Images:
    """A set of images with their labels; a map-style data set for a torch ``DataLoader``.

    ``images[i]`` is the pair of image i, (C, H, W), and its label, an int. A slice, a list of
    positions and a tensor of positions or of truth values each select a subset as `Images`.

    Args:
        pixels: (N, C, H, W), float32 in [-1, 1].
        labels: (N,), int64; all zero when there are no classes.
        class_names: one per class, in label order; None where they are not known.
    """

    pixels: Tensor
    labels: Tensor
    class_names: tuple[str, ...] | None = None

    @classmethod
    def joined(cls, blocks: Iterable[Images]) -> Self:
        """Joins the images of at least one block, in their order."""
        parts = list(blocks)
        return cls(
            torch.cat([block.pixels for block in parts]),
            torch.cat([block.labels for block in parts]),
            parts[0].class_names,
        )

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.labels)

    @overload
    def __getitem__(self, index: int) -> tuple[Tensor, int]: ...
    @overload
    def __getitem__(self, index: slice | Sequence[int]) -> Self: ...
    @overload
    def __getitem__(self, index: Tensor) -> tuple[Tensor, int] | Self: ...

    def __getitem__(
        self, index: int | slice | Sequence[int] | Tensor
    ) -> tuple[Tensor, int] | Self:
        many = isinstance(index, slice | Sequence) or (isinstance(index, Tensor) and index.ndim)
        if not many:
            position = operator.index(cast(int, index))
            if not -len(self) <= position < len(self):
                raise IndexError(f"image {position} of {len(self)}")
            return self.pixels[position], int(self.labels[position])
        chosen = list(index) if isinstance(index, Sequence) else cast(Tensor, index)
        return type(self)(self.pixels[chosen], self.labels[chosen], self.class_names)

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.pixels.shape[1:]))
        names = self.class_names
        told = f", {len(names)} classes" if names and len(names) > 1 else ""
        return f"{type(self).__name__}({len(self)} of {shape}{told})"

    def to_pil(self, index: int) -> Image:
        """Converts image ``index`` to a Pillow image, grey or RGB, 8 bits."""
        from PIL import Image

        pixels, _ = self[index]
        array = to_uint8(pixels).permute(1, 2, 0).contiguous().cpu().numpy()
        return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)

    def _repr_png_(self) -> bytes | None:
        """Renders the first images of each class as a PNG file, for notebooks; None if empty."""
        from dpgen.images.grid import png

        if not len(self):
            return None
        return png(self, max(len(self.class_names or ()), int(self.labels.max()) + 1))


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
    # The least and the largest are NaN where any value is: one pass that makes no copy.
    if pixels.numel() and not all(end.isfinite() for end in torch.aminmax(pixels)):
        raise ValueError("pixels must be finite numbers, got NaN or infinity")
    scaled = pixels.to(torch.float32).add(1).mul_(127.5)
    return scaled.round_().clamp_(0, 255).to(torch.uint8)
