"""The kinds of network that a run may release: one row each.

A kind is a network class and the dataclass of its numbers. How images are drawn from it depends on
its methods (`dpgen.generator.drawing`): a sampler follows the score of a network with ``score_fn``,
a network with ``draw`` makes images itself, and one with neither accompanies the others, like a
classifier.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from torch import nn

from dpgen.networks.condensed import Condensed, CondensedConfig
from dpgen.networks.denoiser import Denoiser, DenoiserConfig
from dpgen.networks.labeller import Labeller, LabellerConfig
from dpgen.networks.proposer import Proposer, ProposerConfig
from dpgen.networks.student import ClassifierConfig, Student
from dpgen.settings import plain


class Kind(NamedTuple):
    """A row of `KINDS`.

    Args:
        network: the class. It is made from one configuration, which it keeps as ``config``, and has
            ``n_classes``. Beside the configuration only its weights and buffers are released.
        config: the dataclass of its numbers, with ``shape`` (C, H, W) and fields that
            `dpgen.settings.from_dict` can read.
    """

    network: type[Any]
    config: type[Any]


# The kinds by the key under which a file's metadata holds the numbers.
KINDS: dict[str, Kind] = {
    "denoiser": Kind(Denoiser, DenoiserConfig),
    "proposer": Kind(Proposer, ProposerConfig),
    "labeller": Kind(Labeller, LabellerConfig),
    "classifier": Kind(Student, ClassifierConfig),
    "condensed": Kind(Condensed, CondensedConfig),
}

# The kinds of the networks of a run by the name of their files, unless its method says otherwise.
BY_NAME = {
    "model": "denoiser", "teacher": "denoiser", "proposals": "proposer", "classifier": "labeller",
    "student": "classifier",
}  # fmt: skip


def kind_of(network: nn.Module) -> str:
    """Returns the kind of a network. Raises TypeError if it is of none, as it could not be read
    back.
    """
    for name, kind in KINDS.items():
        if isinstance(network, kind.network):
            return name
    raise TypeError(
        f"a network to release must be one of {', '.join(KINDS)}, got {type(network).__name__}"
    )


def numbers_of(network: nn.Module) -> Mapping[str, Any]:
    """Returns the configuration of a network, as JSON values. A variant is there only where there
    is one, so that other networks are read by versions that know none.
    """
    config: Any = network.config
    numbers: dict[str, Any] = plain(asdict(config))
    if numbers.get("variant", ...) is None:
        del numbers["variant"]
    return numbers
