"""The exported parts of a run: one released network, how it draws images, and its statement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from dpgen.generator.drawing import block_size
from dpgen.generator.fitted import Fitted
from dpgen.images.images import PublicFacts
from dpgen.networks.denoiser import Denoiser
from dpgen.privacy.statements.document import Certificate, Notice
from dpgen.runs.kinds import kind_of
from samplers import DDIM, Annealed, Heun, Sampler

Transport = Literal["euler", "heun"]


@dataclass(frozen=True)
class Model:
    """A denoiser and the deterministic path from noise to images.

    Args:
        denoiser: the released network.
        sigmas: noise levels, descending, then 0.
        transport: the step from one level to the next.
        facts: public facts of the images.
        document: certificate or notice of the run.
    """

    denoiser: Denoiser
    sigmas: tuple[float, ...]
    transport: Transport
    facts: PublicFacts
    document: Certificate | Notice

    @property
    def block(self) -> int:
        """Returns the number of images that are drawn from one seed."""
        return block_size(self.facts.shape)


def model_of(
    generator: Fitted, network: str = "model", sampler: Sampler | None = None
) -> Model:
    """Returns the model of a fitted generator, as `dpgen sample` draws from it.

    Args:
        generator: a fitted generator.
        network: name of a released network.
        sampler: the sampler; None for the method's own.

    Raises:
        ValueError: the network is not a UNet, or other libraries lack its sampler; the message
            names one that can be used instead.
    """
    own = generator.sampler_of(network)
    released = generator.networks[network]
    if not isinstance(released, Denoiser):
        raise ValueError(
            f"network {network!r} is a {kind_of(released)} and no UNet: it has no part in other "
            "libraries. Draw a set with dpgen sample, and share that"
        )
    variant = released.config.variant
    if variant is not None and variant.target != "edm":
        raise ValueError(
            f"the network began with weights of others and puts out {variant.target}, which the "
            "code of an export does not know: draw a set with dpgen sample, and share that"
        )
    cure = "--sampler ddim, or heun, is a path that can be exported: sample with it, too"
    if network == "model" and sampler is None and generator.proposer is not None:
        raise ValueError(
            f"the method's own sampler starts at images of a proposer, which is no UNet: {cure}"
        )
    chosen = own if sampler is None else sampler
    transport = _transport(chosen)
    if transport is None:
        raise ValueError(f"images are drawn by {chosen!r}, which other libraries lack: {cure}")
    assert isinstance(chosen, Annealed) and generator.facts is not None
    levels = chosen.levels().to(torch.float64).tolist()
    return Model(released, tuple(levels), transport, generator.facts, generator.document)


def _transport(sampler: Sampler | None) -> Transport | None:
    """Returns the transport of a deterministic sampler; None for any other sampler."""
    if not isinstance(sampler, Annealed) or sampler.kernel is not None:
        return None
    if isinstance(sampler.transport, DDIM) and sampler.transport.eta == 0:
        return "euler"
    if isinstance(sampler.transport, Heun) and sampler.transport.churn == 0:
        return "heun"
    return None
