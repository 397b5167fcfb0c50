"""Low-rank adapters (LoRA) of the attention layers of a denoiser, so that few numbers are trained.

Every linear layer of attention, with weight W, computes ``(W + B A) x + b``. A (rank, n_in) is
drawn at random and B (n_out, rank) is zero, so an adapted network begins as it was. W, b and the
rest of the network are constants, but for what a start does not bring along: the embedding of the
classes, and the last convolution, through which every correction passes. Merging puts W + B A in
the place of W: a network like any other.

Reference: Hu et al. (2021), "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685,
section 4.1, with alpha equal to the rank.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpgen.networks.denoiser import Denoiser

__all__ = ["AdaptedLinear", "adapted", "merged", "rank_of"]

PROJECTIONS = (".to_q", ".to_k", ".to_v", ".to_out.0")  # of an attention layer
TRAINED = ("unet.class_embedding.", "unet.conv_out.")
DOWN, UP = ".down.weight", ".up.weight"


class AdaptedLinear(nn.Module):
    """A linear layer whose own weight and bias are constants, and its adapter.

    Args:
        linear: the layer.
        rank: rows of A, at least 1.
        generator: source of A, whose entries have variance 1 / n_in.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.register_buffer("weight", linear.weight.detach())
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())
        like = {"device": linear.weight.device, "dtype": linear.weight.dtype}
        self.down = nn.Linear(linear.in_features, rank, bias=False, **like)
        self.up = nn.Linear(rank, linear.out_features, bias=False, **like)
        drawn = torch.randn(rank, linear.in_features, generator=generator)
        with torch.no_grad():
            self.down.weight.copy_(drawn / linear.in_features**0.5)
            self.up.weight.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Computes ``(W + B A) x + b``, (..., n_out), of x, (..., n_in)."""
        out: Tensor = functional.linear(x, self.weight, self.bias) + self.up(self.down(x))
        return out


def adapted(denoiser: Denoiser, rank: int, generator: torch.Generator) -> Denoiser:
    """Returns a copy of a denoiser with adapters, which computes what the denoiser does.

    Guarantees: its parameters are those of the adapters, of the class embedding and of the last
    convolution, and everything else is a buffer, so that no training can move it.

    Args:
        denoiser: a network with attention; it is not changed.
        rank: of the adapters: see `DenoiserConfig.check_rank`.
        generator: public randomness.
    """
    denoiser.config.check_rank(rank)
    network = copy.deepcopy(denoiser)
    for name, _ in _layers(denoiser):
        home, _, last = name.rpartition(".")
        parent = network.get_submodule(home)
        linear = network.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        setattr(parent, last, AdaptedLinear(linear, rank, generator))
    for prefix, module in network.named_modules():
        for name in [*module._parameters]:
            whole = f"{prefix}.{name}"
            if not whole.startswith(TRAINED) and not whole.endswith((DOWN, UP)):
                value = module._parameters.pop(name)
                module.register_buffer(name, None if value is None else value.detach())
    return network


def merged(network: Denoiser) -> dict[str, Tensor]:
    """Returns the weights of a denoiser without adapters that computes what an adapted one does."""
    held = network.state_dict()
    for name in [name for name in held if name.endswith(DOWN)]:
        layer = name.removesuffix(DOWN)
        product = held.pop(f"{layer}{UP}").double() @ held.pop(name).double()
        weight = held[f"{layer}.weight"]
        held[f"{layer}.weight"] = (weight.double() + product).to(weight.dtype)
    return dict(held)


def rank_of(network: nn.Module) -> int:
    """Returns the rank of the adapters of a network; 0 for a network without any."""
    found = (one.down.out_features for one in network.modules() if isinstance(one, AdaptedLinear))
    return next(found, 0)


def _layers(denoiser: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """Yields the linear layers of attention, by name."""
    for name, module in denoiser.named_modules():
        if isinstance(module, nn.Linear) and name.endswith(PROJECTIONS):
            yield name, module
