"""The size of a denoiser: its width, depth and attention."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

from dpgen.networks.fixed.cosines import Cosines
from dpgen.networks.variant import Variant

__all__ = ["PRESETS", "DenoiserConfig", "Preset", "preset_for"]

HEAD_CHANNELS = 8  # of each head of attention, as diffusers has it by default
MOST_COEFFICIENTS = 2**14  # cosines of the Gaussian, each of which has a mean per class


# Defaults of the private teacher's settings, by preset. Those of 8x8 were chosen on splits within
# the 1,437 training digits (five folds), without the held-out digits.
ON_DIGITS: dict[str, int | float] = {
    "warm_start_share": 0.9, "bands": 15, "pretrain_steps": 0, "batch": 144,
    "n_steps": 40, "n_draws": 8, "learning_rate": 3e-4, "ema_decay": 0.9,
}  # fmt: skip
USUAL: dict[str, int | float] = {
    "warm_start_share": 0.1, "bands": 12, "pretrain_steps": 0, "batch": 4096,
    "n_steps": 2000, "n_draws": 16, "learning_rate": 3e-4, "ema_decay": 0.999,
}  # fmt: skip


class Preset(NamedTuple):
    """The size of a denoiser before the shape of the images is known.

    ``channels[k]`` belongs to level k, the last entry to all deeper ones. A level is added while
    the longer side is at least ``halve_from`` pixels. Every level whose longer side is at most
    ``attention_at`` has attention. ``made_for`` describes its use in messages.

    It is the default for images whose longer side is at most ``default_up_to`` pixels, unless a
    preset with a lower limit takes them; for networks that are fitted to released images, in
    minutes on a CPU, that limit is ``refit_up_to``. With a limit of 0 it is used only if it is
    named. ``teacher`` holds the defaults of the private teacher's settings.
    """

    channels: tuple[int, ...]
    layers_per_block: int
    norm_groups: int
    halve_from: int
    attention_at: int
    made_for: str
    default_up_to: float = 0
    refit_up_to: float = 0
    teacher: Mapping[str, int | float] = USUAL


PRESETS = {
    "quick": Preset(
        (8, 16, 32), 1, 8, 14, 0, "28x28 and more, on a CPU", refit_up_to=math.inf
    ),
    "tiny": Preset(
        (16, 32), 1, 8, 8, 0, "8x8", default_up_to=16, refit_up_to=16, teacher=ON_DIGITS
    ),
    "small": Preset((32, 64, 64), 1, 8, 14, 8, "28x28 and 32x32", default_up_to=32),
    "base": Preset(
        (32, 64, 128, 128), 1, 8, 16, 16, "64x64 and larger", default_up_to=math.inf,
        teacher=USUAL | {"bands": 8},
    ),
}  # fmt: skip


def preset_for(
    shape: tuple[int, int, int], name: str | None = None, *, refit: bool = False
) -> str:
    """Returns the name of a preset: the given one, or else the smallest for the public shape.

    Args:
        shape: (C, H, W).
        name: a key of `PRESETS`; ValueError for any other.
        refit: whether it is for a network that is fitted to released images, in minutes on a CPU.
    """
    if name is not None:
        if name not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
        return name
    limits = {key: row.refit_up_to if refit else row.default_up_to for key, row in PRESETS.items()}
    return min((key for key in limits if max(shape[1:]) <= limits[key]), key=limits.__getitem__)


@dataclass(frozen=True)
class DenoiserConfig:
    """All numbers of a denoiser; two equal ones make modules with the same parameters.

    Args:
        shape: (C, H, W) of the images. H and W must be divisible by ``2 ** (levels - 1)``.
        n_classes: number of classes, at least 1 (1: no classes).
        block_out_channels: channels of each level, finest first; multiples of ``norm_groups``.
        layers_per_block: residual blocks per level on the way down.
        attention_levels: levels with self-attention, ascending; 0 is full resolution. If there is
            one, the block in the middle has it too.
        norm_groups: groups of every GroupNorm.
        sigma_data: standard deviation of the data in [-1, 1]: a public constant (EDM's 0.5), never
            measured on private records.
        prior_bands: cosines (u + v below this, per channel) of the Gaussian denoiser that the
            network corrects; with 0 there is none, and the network corrects EDM's skip connection.
        prior_input: whether the network also gets that Gaussian's output, as C further channels.
        level: what the noise embedding says whatever the noise level of the input is; None: that
            level. A student of one step sees pure noise and says the image.
        n_reserved: embedding rows after the null class that no label in training uses; an audit
            gives them to its canaries.
        variant: what a network of others has that those of this package do not; None for nothing.
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
    level: float | None = None
    variant: Variant | None = None

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
        if self.level is not None and not 0 < self.level < math.inf:
            raise ValueError(f"level must be positive and finite or None, got {self.level}")
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
        if self.prior_bands and self.variant is not None and self.variant.target != "edm":
            raise ValueError(
                f"a network with target {self.variant.target} has no prior: prior_bands must be 0, "
                f"got {self.prior_bands}"
            )
        if self.prior_input and not self.prior_bands:
            raise ValueError("prior_input needs a prior: prior_bands must be at least 1, got 0")

    @property
    def n_embeddings(self) -> int:
        """Returns the number of rows of the label embedding: the classes, then the null class, then
        the reserved ids.
        """
        return self.n_classes + 1 + self.n_reserved

    @property
    def attention_sides(self) -> list[int]:
        """Returns the channels of the heads of each attention block together, which are those of
        the block rounded down to whole heads.
        """
        widths = [self.block_out_channels[level] for level in self.attention_levels]
        widths += self.block_out_channels[-1:] if widths else ()  # the block in the middle
        head = HEAD_CHANNELS if self.variant is None else self.variant.attention_head_dim
        return [width // head * head if head else width for width in widths]

    def check_rank(self, rank: int) -> None:
        """Refuses adapters of this rank: where there is no attention, or where the rank is not
        below the sides of all of its layers, so that adapters would save nothing.
        """
        if not self.attention_levels:
            raise ValueError(
                "adapters are of attention layers, and this network has none: set adapters to 0, "
                "or take a network that has some, as preset base"
            )
        side = min(self.attention_sides)
        if not 1 <= rank < side:
            raise ValueError(
                f"adapters must be a rank from 1 to {side - 1}, below the {side} channels of the "
                f"smallest attention layer, got {rank}"
            )

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
        """Makes the configuration that ``PRESETS[name]`` gives for images of ``shape``, (C, H, W).
        """
        preset = PRESETS[preset_for(shape, name)]
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
