"""The kinds of network that a run may release: one row each.

A kind is a network class and the dataclass of its numbers. How images are drawn from it follows
from what it can do (`dpgen.generator.drawing`): a network with ``score_fn`` is followed by a
sampler, one with ``draw`` makes images itself, and one with neither lies beside the others, as a
classifier does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from torch import nn

from dpgen.networks.denoiser import Denoiser, DenoiserConfig
from dpgen.networks.proposer import Proposer, ProposerConfig
from dpgen.settings import plain


class Kind(NamedTuple):
    """A row of `KINDS`.

    Args:
        network: the class, made of one configuration, which it has as ``config``; its weights and
            buffers are all that is released of it beside that. Has ``n_classes``.
        config: the dataclass of its numbers, with ``shape`` (C, H, W) and otherwise of what
            `dpgen.settings.from_dict` reads back.
    """

    network: type[Any]
    config: type[Any]


# By the word under which a file's metadata holds the numbers.
KINDS: dict[str, Kind] = {
    "denoiser": Kind(Denoiser, DenoiserConfig),
    "proposer": Kind(Proposer, ProposerConfig),
}


def kind_of(network: nn.Module) -> str:
    """The kind of a network. Raises TypeError for one of none: it could not be read back."""
    for name, kind in KINDS.items():
        if isinstance(network, kind.network):
            return name
    raise TypeError(
        f"a network to release must be one of {', '.join(KINDS)}, got {type(network).__name__}"
    )


def numbers_of(network: nn.Module) -> Mapping[str, Any]:
    """The numbers of a network, as JSON values."""
    config: Any = network.config
    numbers: Mapping[str, Any] = plain(asdict(config))
    return numbers
