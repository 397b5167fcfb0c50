"""Per-record gradients, from `vmap` over the loss of one record or from one batched pass.

Either way the gradient of a record is a function of that record, its draws and the parameters. For
`vmap` this holds by construction: a record's loss sees no other record. For the batched pass it
holds because every layer that it supports treats rows one by one, and the pass is compared with
`vmap` on made-up numbers before it is used on a record. A network that it does not support, or on
which the two differ, uses `vmap`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from dpgen.privacy.mechanisms.layers import known, weight_gradients
from dpgen.privacy.mechanisms.softmax import SoftmaxLoss

__all__ = ["BatchedLoss", "Call", "LossFn", "Parameters", "engine_of", "per_record_gradients"]

Parameters = dict[str, Tensor]
# (parameters, *one record and its draws, no batch dimension) -> scalar
LossFn = Callable[..., Tensor]
# The network with parameters in place, called like the network itself.
Call = Callable[..., Tensor]

# Largest difference, relative to a record's norm, between two float64 gradients of one loss.
AGREEMENT = 1e-6


class BatchedLoss:
    """The loss of one record through a network, and the same losses of many records at once.

    Called like any `LossFn` it is the loss of one record, which `vmap` takes.

    Args:
        network: gradients are taken by its parameters, under their names.
        record: ``record(call, *one record and its draws) -> scalar``, where ``call`` is the
            network.
        batch: ``batch(call, *records and their draws) -> (B,)``, row i the loss of record i alone.
            It gives the network a whole number of rows for each record, record by record, and takes
            no derivative itself. None where there is no such function.
        half: half-precision type in which a float32 network computes; None for float32. Its
            parameters are rounded to this type for the pass, and it rounds its input to the type of
            its parameters. Per-record gradients are float32 in either case.
    """

    def __init__(
        self,
        network: nn.Module,
        record: Callable[..., Tensor],
        batch: Callable[..., Tensor] | None,
        half: torch.dtype | None = None,
    ) -> None:
        self._network, self._record, self._batch, self._half = network, record, batch, half
        self.layers = None if batch is None else _layers(network)
        self._checked: dict[Any, bool] = {}

    def __call__(self, parameters: Mapping[str, Tensor], *record: Any) -> Tensor:  # noqa: ANN401
        return self._record(self._bound(parameters), *record)

    def _bound(self, tensors: Mapping[str, Tensor]) -> Call:
        held = {
            name: t.to(self._half) if self._half and t.dtype == torch.float32 else t
            for name, t in tensors.items()
        }
        return lambda *given: functional_call(self._network, held, given)

    def gradients(self, parameters: Parameters, *batch: Any) -> Parameters | None:  # noqa: ANN401
        """Computes every record's gradient, (B, *shape) each, in one batched pass; None where the
        pass does not support the network.
        """
        if self.layers is None or not self._agrees(parameters, batch):
            return None
        return self._gradients(parameters, batch)

    def _gradients(self, tensors: Mapping[str, Tensor], batch: tuple[Any, ...]) -> Parameters:
        assert self._batch is not None and self.layers is not None
        found: Parameters = {}
        handles = [
            layer.register_forward_hook(partial(_watch, found, prefix, len(batch[0])))
            for prefix, layer in self.layers.items()
        ]
        held = {name: t.detach() for name, t in tensors.items()}
        try:
            with torch.enable_grad():
                losses = self._batch(self._bound(held), *batch)
        finally:
            for handle in handles:
                handle.remove()
        losses.sum().backward()
        return found

    def _agrees(self, parameters: Parameters, batch: tuple[Any, ...]) -> bool:
        """Returns whether the batched pass and `vmap` agree on made-up records of these shapes."""
        key = _map(lambda t: (t.shape[1:], t.dtype, t.device), batch)
        if str(key) not in self._checked:
            self._checked[str(key)] = self._compared(parameters, batch)
        return self._checked[str(key)]

    def _compared(self, parameters: Parameters, batch: tuple[Any, ...]) -> bool:
        generator = torch.Generator().manual_seed(0)

        def made_up(like: Tensor) -> Tensor:
            shape = (2, *like.shape[1:])
            if not like.is_floating_point():
                return torch.zeros(shape, dtype=like.dtype, device=like.device)
            values = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5
            return values.to(like.device)

        def moved(p: Tensor) -> Tensor:
            step = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            return p.double() + 0.05 * step.to(p.device)

        weights = {name: moved(p) for name, p in parameters.items()}
        buffers = {
            name: b.double() for name, b in self._network.named_buffers() if b.is_floating_point()
        }
        rows = _map(made_up, batch)
        alone = vmap(grad(lambda w, *row: self(w | buffers, *row)), in_dims=_axes(batch))
        # Unfused attention: vmap would run the fused kernel row by row, with a warning.
        with sdpa_kernel(SDPBackend.MATH):
            expected = alone(weights, *rows)
        found = self._gradients(weights | buffers, rows)
        if not set(found) <= set(expected):
            return False
        scale = sum(g.flatten(1).square().sum(1) for g in expected.values())
        apart = sum(
            (found.get(name, torch.zeros_like(g)) - g).flatten(1).square().sum(1)
            for name, g in expected.items()
        )
        agrees = bool((apart <= AGREEMENT**2 * scale).all())
        if not agrees:
            warnings.warn(
                "the batched pass and vmap differ on this network: it is trained through vmap, "
                "which is right and slower",
                stacklevel=2,
            )
        return agrees


def per_record_gradients(
    loss_fn: LossFn, parameters: Parameters, batch: tuple[Any, ...]
) -> Parameters:
    """Computes every record's gradient, (B, *shape) for each parameter: float32, or the type in
    which the loss computes.

    Args:
        loss_fn: the loss of one record; a `BatchedLoss` computes all records at once.
        parameters: the tensors to differentiate by.
        batch: tensors, or dictionaries of tensors, of equal first dimension B.
    """
    if isinstance(loss_fn, BatchedLoss):
        found = loss_fn.gradients(parameters, *batch)
        if found is not None:
            return found
    return vmap(grad(loss_fn), in_dims=_axes(batch), randomness="error")(parameters, *batch)


def engine_of(loss_fn: LossFn) -> str:
    """Names the engine that computes this loss; the engines round differently. A batched pass that
    does not agree with `vmap` fails the comparison at every start.
    """
    if isinstance(loss_fn, SoftmaxLoss):
        return "outer products"
    batched = isinstance(loss_fn, BatchedLoss) and loss_fn.layers is not None
    return "layers" if batched else "vmap"


def _axes(batch: tuple[Any, ...]) -> tuple[int | None, ...]:
    return (None,) + (0,) * len(batch)


def _map(function: Callable[[Tensor], Any], batch: tuple[Any, ...]) -> tuple[Any, ...]:
    """Applies a function to every tensor of a batch, and keeps dictionaries."""
    return tuple(
        {k: function(t) for k, t in part.items()} if isinstance(part, dict) else function(part)
        for part in batch
    )


def _layers(network: nn.Module) -> dict[str, nn.Module] | None:
    """Returns the layers that own parameters, by the prefix of their names; None where a layer is
    not supported or a parameter belongs to two.
    """
    found: dict[str, nn.Module] = {}
    owned: list[Tensor] = []
    for name, layer in network.named_modules():
        own = list(layer.parameters(recurse=False))
        if own:
            if not known(layer):
                return None
            found[f"{name}." if name else ""] = layer
            owned += own
    return found if len(owned) == len({id(p) for p in owned}) else None


def _watch(
    found: Parameters, prefix: str, n_records: int, layer: nn.Module, given: tuple[Any, ...],
    out: Tensor,
) -> None:  # fmt: skip
    """Adds the layer's per-record gradients to ``found`` in the backward pass; a forward hook."""
    kept = [given[0].detach()]
    if not out.requires_grad:
        out.requires_grad_()

    def add(slope: Tensor) -> None:
        # The input is released here, because this function lives as long as the whole graph.
        for name, value in weight_gradients(layer, kept.pop(), slope, n_records).items():
            name = prefix + name
            found[name] = found[name] + value if name in found else value

    out.register_hook(add)
