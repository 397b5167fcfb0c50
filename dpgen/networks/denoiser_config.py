"""Sets the size of a denoiser: its width, depth and attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

from dpgen.networks.fixed.cosines import Cosines

__all__ = ["PRESETS", "DenoiserConfig", "Preset"]

MOST_COEFFICIENTS = 2**14  # of the Gaussian's cosines, each of which has a mean per class


class Preset(NamedTuple):
    """The size of a denoiser before the shape of the images is known.

    ``channels[k]`` belongs to level k, the last entry to all deeper ones. A level is added while
    the longer side is at least ``halve_from`` pixels. Attention stands on every level whose longer
    side is at most ``attention_at``.
    """

    channels: tuple[int, ...]
    layers_per_block: int
    norm_groups: int
    halve_from: int
    attention_at: int
    made_for: str


PRESETS = {
    "quick": Preset((8, 16, 32), 1, 8, 14, 0, "28x28 and more, on a CPU"),
    "tiny": Preset((16, 32), 1, 8, 8, 0, "8x8"),
    "small": Preset((32, 64, 64), 1, 8, 14, 8, "28x28 and 32x32"),
    "base": Preset((32, 64, 128, 128), 1, 8, 16, 16, "64x64 and larger"),
}


@dataclass(frozen=True)
class DenoiserConfig:
    """All numbers of a denoiser; two equal ones make modules with the same parameters.

    Args:
        shape: (C, H, W) of the images. H and W must be divisible by ``2 ** (levels - 1)``.
        n_classes: number of classes, at least 1 (1: no classes).
        block_out_channels: channels of each level, finest first; multiples of ``norm_groups``.
        layers_per_block: residual blocks per level on the way down.
        attention_levels: levels with self-attention, ascending; 0 is full resolution. With any, the
            block in the middle has it too.
        norm_groups: groups of every GroupNorm.
        sigma_data: standard deviation of the data in [-1, 1]: a public constant (EDM's 0.5), never
            measured on private records.
        prior_bands: cosines (u + v below this, per channel) of the Gaussian denoiser that the
            network corrects; 0: none, the network stands on EDM's skip connection.
        prior_input: whether the network also sees what that Gaussian says, as C further channels.
        n_reserved: embedding rows after the null class that no label in training uses; an audit
            gives them to its canaries.
    """

    shape: tuple[int, int, int]
    n_classes: int
    block_out_channels: tuple[int, ...]
    layers_per_block: int
    attention_levels: tuple[int, ...]
    norm_groups: int
    sigma_data: float = 0.5
    n_reserved: int = 0
    prior_bands: int = 0
    prior_input: bool = False

    def __post_init__(self) -> None:
        n_levels = len(self.block_out_channels)
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"shape must be (C, H, W), all positive, got {self.shape}")
        if n_levels < 1:
            raise ValueError("block_out_channels must name at least one level, got ()")
        _, height, width = self.shape
        divisor = 2 ** (n_levels - 1)
        if height % divisor or width % divisor:
            presets = ", ".join(f"{name} ({preset.made_for})" for name, preset in PRESETS.items())
            raise ValueError(
                f"height and width must be divisible by {divisor} for {n_levels} levels, got "
                f"{height}x{width}: resize the images or take another preset: {presets}"
            )
        if self.n_classes < 1:
            raise ValueError(f"n_classes must be at least 1 (no classes), got {self.n_classes}")
        if not 1 <= self.layers_per_block <= 16:
            raise ValueError(f"layers_per_block must lie in 1..16, got {self.layers_per_block}")
        if self.norm_groups < 1:
            raise ValueError(f"norm_groups must be at least 1, got {self.norm_groups}")
        if any(c < 1 or c % self.norm_groups for c in self.block_out_channels):
            raise ValueError(
                f"block_out_channels must be multiples of norm_groups {self.norm_groups}, "
                f"got {self.block_out_channels}"
            )
        if not set(self.attention_levels) <= set(range(n_levels)):
            raise ValueError(
                f"attention_levels must lie in [0, {n_levels}), got {self.attention_levels}"
            )
        if not self.sigma_data > 0:
            raise ValueError(f"sigma_data must be positive, got {self.sigma_data}")
        for name in ("n_reserved", "prior_bands"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.prior_bands:
            n_coefficients = Cosines(self.shape, self.prior_bands).n_coefficients
            if n_coefficients > MOST_COEFFICIENTS:
                raise ValueError(
                    f"prior_bands must keep at most {MOST_COEFFICIENTS} cosines, got "
                    f"{self.prior_bands}, which keep {n_coefficients}: lower it"
                )
        if self.prior_input and not self.prior_bands:
            raise ValueError("prior_input needs a prior: prior_bands must be at least 1, got 0")

    @property
    def n_embeddings(self) -> int:
        """Rows of the label embedding: the classes, then the null class, then the reserved ids."""
        return self.n_classes + 1 + self.n_reserved

    @classmethod
    def preset(
        cls,
        name: str,
        shape: tuple[int, int, int],
        n_classes: int,
        *,
        sigma_data: float = 0.5,
        n_reserved: int = 0,
        prior_bands: int = 0,
        prior_input: bool = False,
    ) -> Self:
        """The configuration that ``PRESETS[name]`` gives images of ``shape``."""
        if name not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
        preset = PRESETS[name]
        sides = [max(shape[1:])]
        while sides[-1] >= preset.halve_from:
            sides.append(sides[-1] // 2)
        widths = preset.channels + preset.channels[-1:] * len(sides)
        return cls(
            shape=shape,
            n_classes=n_classes,
            block_out_channels=widths[: len(sides)],
            layers_per_block=preset.layers_per_block,
            attention_levels=tuple(
                level for level, side in enumerate(sides) if side <= preset.attention_at
            ),
            norm_groups=preset.norm_groups,
            sigma_data=sigma_data,
            n_reserved=n_reserved,
            prior_bands=prior_bands,
            prior_input=prior_input,
        )
