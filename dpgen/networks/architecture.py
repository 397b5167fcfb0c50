"""The size of a network whose weights come from elsewhere, and how it is read from a configuration
of diffusers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from dpgen.networks.denoiser_config import DenoiserConfig
from dpgen.networks.variant import Variant

__all__ = ["Architecture", "unet_config"]

STOCK = Variant()  # a network of this package
BLOCKS = {"DownBlock2D": False, "AttnDownBlock2D": True}  # whether a level has attention
# What a UNet2DModel is told by the numbers of a denoiser; the class embedding and the number of
# inputs are compared apart, and the side of the images changes no weight.
GIVEN = {"sample_size", "in_channels", "num_class_embeds"}


@dataclass(frozen=True)
class Architecture:
    """The size of the network that belongs to weights with which a run starts: it follows from
    them and is not chosen. Raises ValueError without any level.

    Args:
        block_out_channels: channels of each level of the network of the weights, finest first.
        layers_per_block: residual blocks per level of that network, on the way down.
        attention_levels: levels of that network with self-attention; 0 is full resolution.
        norm_groups: groups of every GroupNorm of that network.
        residual: what that network corrects: "off" (noisy images alone), "added" (a Gaussian) or
            "fed" (a Gaussian, whose output is also its input).
        variant: what that network has that those of this package do not, where it has anything.
    """

    block_out_channels: tuple[int, ...] = ()
    layers_per_block: int = 1
    attention_levels: tuple[int, ...] = ()
    norm_groups: int = 1
    residual: str = "off"
    variant: Variant | None = None

    def __post_init__(self) -> None:
        if not self.block_out_channels:
            raise ValueError(
                "teacher.init.* follow from the weights of --init FOLDER: drop these settings"
            )

    @classmethod
    def of(cls, config: DenoiserConfig) -> Self:
        """Returns the size of a denoiser."""
        residual = "fed" if config.prior_input else "added" if config.prior_bands else "off"
        return cls(
            config.block_out_channels, config.layers_per_block, config.attention_levels,
            config.norm_groups, residual, config.variant,
        )  # fmt: skip

    def config(
        self, shape: tuple[int, int, int], n_classes: int, *, prior_bands: int = 0
    ) -> DenoiserConfig:
        """Makes the configuration of a denoiser of this size. Raises ValueError where it does not
        support images of ``shape``, (C, H, W).
        """
        return DenoiserConfig(
            shape, n_classes, self.block_out_channels, self.layers_per_block,
            self.attention_levels, self.norm_groups, prior_bands=prior_bands,
            prior_input=self.residual == "fed", variant=self.variant,
        )  # fmt: skip


def unet_config(
    values: Mapping[str, Any], shape: tuple[int, int, int], residual: str,
    output: Variant = STOCK,
) -> Architecture:  # fmt: skip
    """Reads the size of a ``UNet2DModel`` from its ``config.json``.

    Args:
        values: the parsed file.
        shape: (C, H, W) of the images that the network is to be used for.
        residual: as for `Architecture`.
        output: what the network puts out; its numbers inside the blocks are read from ``values``.

    Raises:
        ValueError: no denoiser has this architecture; the message names what differs.
    """
    try:
        downs = [BLOCKS[name] for name in values["down_block_types"]]
        _ = downs[0], values["block_out_channels"][0]  # there is a level
        size = Architecture(
            tuple(values["block_out_channels"]), values.get("layers_per_block", 2),
            tuple(k for k, attends in enumerate(downs) if attends),
            values.get("norm_num_groups", 32), residual, _variant(values, output),
        )  # fmt: skip
        sides = size.config(shape, 1, prior_bands=0 if residual == "off" else 1).attention_sides
        if 0 in sides:
            raise ValueError(
                "levels with attention must have at least the channels of one head, got "
                f"{list(size.block_out_channels)}"
            )
        wanted = _stock(size.config(shape, 1, prior_bands=0 if residual == "off" else 1))
    except (LookupError, TypeError, ArithmeticError, RuntimeError) as error:
        raise ValueError(
            "its blocks must be DownBlock2D and AttnDownBlock2D, as many as it has channels, which "
            f"are whole numbers ({error!r:.80})"
        ) from None
    known = {name: value for name, value in values.items() if not name.startswith("_")}
    absent = object()
    different = []
    for name in sorted(known.keys() | wanted.keys() - GIVEN):
        own = _plain(known[name]) if name in known else _stock_default(name)
        needed = wanted.get(name, absent)
        if name not in GIVEN and own != needed:
            must = "absent" if needed is absent else repr(needed)
            different.append(f"{name} must be {must}, got {own!r:.60}")
    inputs = shape[0] * (2 if residual == "fed" else 1)
    if known.get("in_channels", 3) != inputs:
        different.append(f"in_channels must be {inputs}, got {known.get('in_channels', 3)!r:.60}")
    if different:
        raise ValueError("; ".join(different))
    return size


def _variant(values: Mapping[str, Any], output: Variant) -> Variant | None:
    """Returns what the network has that those of this package do not; None for nothing."""
    inside = {name: values.get(name, own) for name, own in STOCK.options.items()}
    inside["attention_head_dim"] = inside["attention_head_dim"] or 0
    found = replace(output, **inside)
    return None if found == STOCK else found


def _stock(config: DenoiserConfig) -> dict[str, Any]:
    """Returns what diffusers says of the network of a denoiser, which is built without memory."""
    import torch

    from dpgen.networks.denoiser import Denoiser

    with torch.device("meta"):
        unet: Any = Denoiser(config).unet
    return {k: _plain(v) for k, v in unet.config.items() if not k.startswith("_")}


def _stock_default(name: str) -> Any:  # noqa: ANN401
    """Returns what a ``UNet2DModel`` takes where its ``config.json`` leaves a number out."""
    import inspect

    from diffusers import UNet2DModel

    return _plain(inspect.signature(UNet2DModel.__init__).parameters[name].default)


def _plain(value: Any) -> Any:  # noqa: ANN401
    return list(value) if isinstance(value, tuple) else value
