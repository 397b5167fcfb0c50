"""Residual classifiers, with GroupNorm, for the full tier of downstream accuracy."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ResNet"]

GROUPS = 8


class ResNet(nn.Module):
    """A residual network with a stem for small images: no pooling, no stride before the second
    stage.

    Guarantees: no statistic across images, no dropout.

    Args:
        shape: (C, H, W); sides of at least 2^(number of stages - 1).
        n_classes: number of classes, at least 1.
        widths: channels of each stage, multiples of 8; the side is halved from stage to stage.
        n_blocks: blocks of two convolutions in each stage.
        stem: channels before the first stage, a multiple of 8; None takes those of the first stage.

    Widths (64, 128, 256, 512) with 2 blocks make a ResNet-18; (64, 128, 256) with 2 blocks and a
    stem of 16 a WRN-16-4.

    Reference: He, Zhang, Ren, Sun (2016), "Identity Mappings in Deep Residual Networks", arXiv
    1603.05027; Zagoruyko and Komodakis (2016), "Wide Residual Networks", arXiv 1605.07146.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        n_classes: int,
        *,
        widths: tuple[int, ...],
        n_blocks: int = 2,
        stem: int | None = None,
    ) -> None:
        super().__init__()
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"shape must be (C, H, W), all positive, got {shape}")
        if n_classes < 1:
            raise ValueError(f"n_classes must be at least 1 (1 means no classes), got {n_classes}")
        if not widths or any(w < GROUPS or w % GROUPS for w in widths):
            raise ValueError(f"widths must be positive multiples of {GROUPS}, got {widths}")
        if n_blocks < 1:
            raise ValueError(f"n_blocks must be at least 1, got {n_blocks}")
        stem = widths[0] if stem is None else stem
        if stem < GROUPS or stem % GROUPS:
            raise ValueError(f"stem must be a positive multiple of {GROUPS}, got {stem}")
        least = 2 ** (len(widths) - 1)
        if min(shape[1:]) < least:
            raise ValueError(
                f"height and width must be at least {least} for {len(widths)} stages, got "
                f"{shape[1]}x{shape[2]}"
            )
        self.shape = shape
        self.stem = nn.Conv2d(shape[0], stem, 3, padding=1, bias=False)
        blocks: list[nn.Module] = []
        for stage, (narrow, wide) in enumerate(pairwise((stem, *widths))):
            for k in range(n_blocks):
                stride = 2 if stage > 0 and k == 0 else 1
                blocks.append(Block(narrow if k == 0 else wide, wide, stride))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.GroupNorm(GROUPS, widths[-1])
        self.head = nn.Linear(widths[-1], n_classes)

    def features(self, x: Tensor) -> Tensor:
        """Returns the input of the last linear layer, (B, widths[-1])."""
        if x.ndim != 4 or tuple(x.shape[1:]) != tuple(self.shape):
            expected = ", ".join(map(str, self.shape))
            raise ValueError(f"x must have shape (B, {expected}), got {tuple(x.shape)}")
        return functional.silu(self.norm(self.blocks(self.stem(x)))).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Computes logits, (B, n_classes), of images (B, C, H, W) in [-1, 1]."""
        return self.head(self.features(x))


class Block(nn.Module):
    """A residual block: norm, activation and convolution, twice, plus the identity."""

    def __init__(self, narrow: int, wide: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(GROUPS, narrow), nn.GroupNorm(GROUPS, wide)
        self.conv1 = nn.Conv2d(narrow, wide, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(wide, wide, 3, 1, 1, bias=False)
        same = narrow == wide and stride == 1
        self.shortcut = None if same else nn.Conv2d(narrow, wide, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.silu(self.norm1(x))
        kept = x if self.shortcut is None else self.shortcut(y)
        y = self.conv1(y)
        return kept + self.conv2(functional.silu(self.norm2(y)))
