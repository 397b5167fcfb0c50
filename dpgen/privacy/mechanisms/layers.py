"""Computes each record's gradient of a layer's weights, from the layer's input and the gradient of
its output.

A layer is applied to B records with k rows each: the draws of a record, the tokens of a sequence.
Rows come record by record, so a record's gradient is a sum over its own rows and nothing else.
Every kernel here is batched over records: the arithmetic of a record uses no other record's
numbers, also where those are NaN.

Reference: Goodfellow (2015), "Efficient Per-Example Gradient Computations", arXiv 1510.01799, for
linear layers; Rochette, Manoel, Tramel (2019), "Efficient Per-Example Gradient Computations in
Convolutional Neural Networks", arXiv 1912.06015, for the grouped convolution.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["KERNELS", "known", "weight_gradients"]

NAMED = ("same", "valid")  # paddings that torch knows by name
# (layer, input, gradient of the output, number of records) -> (B, *shape) of each parameter
Kernel = Callable[[nn.Module, Tensor, Tensor, int], dict[str, Tensor]]

def known(layer: nn.Module) -> bool:
    """Returns whether `weight_gradients` supports this layer. It supports no subclass, because that
    may compute anything.
    """
    if type(layer) not in KERNELS:
        return False
    if isinstance(layer, nn.Conv2d):
        return layer.groups == 1 and layer.padding_mode == "zeros" and layer.padding not in NAMED
    if isinstance(layer, nn.Embedding):
        return layer.max_norm is None and not layer.scale_grad_by_freq
    return True


def weight_gradients(
    layer: nn.Module, seen: Tensor, slope: Tensor, n_records: int
) -> dict[str, Tensor]:
    """Computes every record's gradient by the layer's own parameters, (B, *shape) each, by their
    names in the layer; float32, or float64 where the slope is.

    Args:
        layer: one for which `known` holds.
        seen: the layer's input, (B k, ...), record by record.
        slope: the gradient of the summed losses by the layer's output, (B k, ...).
        n_records: B.

    Raises:
        ValueError: the first axis does not hold a whole number of rows for each record.
    """
    if len(slope) % n_records:
        raise ValueError(
            f"a layer's rows must come record by record, got {len(slope)} rows of "
            f"{type(layer).__name__} for {n_records} records"
        )
    return KERNELS[type(layer)](layer, seen, slope, n_records)


def _wide(like: Tensor) -> torch.dtype:
    """Returns the type in which gradients are kept: float32 for half precision, which is used
    inside kernels only.
    """
    return torch.promote_types(like.dtype, torch.float32)


def _linear(layer: nn.Module, seen: Tensor, slope: Tensor, n_records: int) -> dict[str, Tensor]:
    seen = seen.reshape(n_records, -1, seen.shape[-1]).to(slope.dtype)
    slope = slope.reshape(n_records, -1, slope.shape[-1])
    found = {"weight": _product(slope.mT, seen)}
    if layer.bias is not None:
        found["bias"] = slope.sum(1, dtype=_wide(slope))
    return found


def _group_norm(layer: nn.Module, seen: Tensor, slope: Tensor, n_records: int) -> dict[str, Tensor]:
    assert isinstance(layer, nn.GroupNorm)
    if not layer.affine:
        return {}
    n, channels, groups = len(seen), layer.num_channels, layer.num_groups
    positions = seen[0, 0].numel()
    seen, slope = seen.to(slope.dtype).contiguous(), slope.contiguous()
    _, mean, scale = torch.ops.aten.native_group_norm(
        seen, None, None, n, channels, positions, groups, layer.eps
    )
    # Treated as one image of n * channels channels, whose weight gradient is one per channel.
    ones = slope.new_ones(n * channels)
    _, weight, bias = torch.ops.aten.native_group_norm_backward(
        slope, seen, mean.reshape(1, -1), scale.reshape(1, -1), ones, 1, n * channels, positions,
        n * groups, [False, True, True],
    )  # fmt: skip
    wide = _wide(slope)
    return {
        name: rows.reshape(n_records, -1, channels).sum(1, dtype=wide)
        for name, rows in (("weight", weight), ("bias", bias))
    }


def _embedding(layer: nn.Module, seen: Tensor, slope: Tensor, n_records: int) -> dict[str, Tensor]:
    assert isinstance(layer, nn.Embedding)
    # A product with one-hot rows, because scattered additions have no fixed order on a GPU.
    rows = torch.arange(layer.num_embeddings, device=seen.device)
    hot = (seen.reshape(n_records, -1, 1) == rows).to(slope.dtype)
    if layer.padding_idx is not None:
        hot[..., layer.padding_idx] = 0
    slope = slope.reshape(n_records, -1, layer.embedding_dim)
    return {"weight": _product(hot.mT, slope)}


def _convolution(
    layer: nn.Module, seen: Tensor, slope: Tensor, n_records: int
) -> dict[str, Tensor]:
    assert isinstance(layer, nn.Conv2d)
    found = {}
    if layer.bias is not None:
        sums = slope.flatten(2).sum(2, dtype=_wide(slope))
        found["bias"] = sums.reshape(n_records, -1, layer.out_channels).sum(1)
    kernel = _choose(layer, slope, n_records)
    found["weight"] = kernel(layer, seen.to(slope.dtype), slope, n_records).to(_wide(slope))
    return found


def _choose(layer: nn.Conv2d, slope: Tensor, n_records: int) -> Callable[..., Tensor]:
    """Chooses a kernel by device and shape, never by timing: a step that is repeated after a kill
    must round as it did before.
    """
    if slope.is_cuda:
        return CONVOLUTIONS["shift"]
    positions = len(slope) // n_records * slope.shape[2] * slope.shape[3]
    return CONVOLUTIONS["loop" if positions >= 6000 else "group"]


def _loop(layer: nn.Conv2d, seen: Tensor, slope: Tensor, n_records: int) -> Tensor:
    """Runs one convolution for each record."""
    return torch.stack(
        [
            _backward(layer, x, g, layer.weight.shape, 1)
            for x, g in zip(seen.chunk(n_records), slope.chunk(n_records), strict=True)
        ]
    )


def _group(layer: nn.Conv2d, seen: Tensor, slope: Tensor, n_records: int) -> Tensor:
    """Runs one convolution with a group for each record and the record's rows as its batch."""

    def regrouped(rows: Tensor) -> Tensor:
        apart = rows.reshape(n_records, -1, *rows.shape[1:]).transpose(0, 1)
        return apart.reshape(-1, n_records * rows.shape[1], *rows.shape[2:])

    shape = (n_records * layer.out_channels, *layer.weight.shape[1:])
    found = _backward(layer, regrouped(seen), regrouped(slope), shape, n_records)
    return found.reshape(n_records, *layer.weight.shape)


def _backward(
    layer: nn.Conv2d, seen: Tensor, slope: Tensor, shape: tuple[int, ...], groups: int
) -> Tensor:
    # The gradient by the weight does not depend on the weight: only its shape is read.
    weight = slope.new_empty(1).expand(shape)
    return torch.ops.aten.convolution_backward(
        slope, seen, weight, None, layer.stride, layer.padding, layer.dilation,
        False, [0, 0], groups, [False, True, False],
    )[1]  # fmt: skip


def _shifted(layer: nn.Conv2d, seen: Tensor, slope: Tensor, n_records: int) -> Tensor:
    """Runs one matrix product for each record and row of the kernel: patches are written out in one
    direction only.
    """
    assert not isinstance(layer.padding, str)
    (top, left), (high, wide) = layer.padding, layer.kernel_size
    down, right = layer.dilation
    n, channels, height, width = seen.shape
    k = n // n_records
    rows, columns = height + 2 * top, width + 2 * left
    reach = (high - 1) * down * columns + (wide - 1) * right
    length = k * rows * columns
    # Inputs and slopes share one grid, channels last; zeros at the end keep shifts in the record.
    padded = seen.new_zeros(n_records, length + reach, channels)
    grid = padded[:, :length].unflatten(1, (k, rows, columns))
    grid[:, :, top : top + height, left : left + width] = seen.permute(0, 2, 3, 1).unflatten(
        0, (n_records, k)
    )
    # All taps of a kernel row are one product: their inputs lie side by side.
    reach = (high - 1) * down * columns
    strides = (padded.stride(0), channels, right * channels, 1)
    x = padded.as_strided((n_records, length + reach, wide, channels), strides)
    x = x.flatten(2).contiguous()  # now patches are written: a view of them overlaps itself
    g = slope.new_zeros(n_records, k, rows, columns, slope.shape[1])
    (over, across) = layer.stride
    spread = g[:, :, ::over, ::across][:, :, : slope.shape[2], : slope.shape[3]]
    spread.copy_(slope.permute(0, 2, 3, 1).unflatten(0, (n_records, k)))
    g = g.flatten(1, 3).mT
    taps = [_product(g, x[:, i * down * columns :][:, :length]) for i in range(high)]
    found = torch.stack(taps, 1).unflatten(3, (wide, channels))
    return found.permute(0, 2, 4, 1, 3)  # as it lies in memory, without a copy


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Computes a matrix product for each record, at least float32, also where the factors are not.
    """
    if a.is_cuda and a.dtype is not _wide(a):
        return torch.bmm(a, b, out_dtype=_wide(a))
    return torch.bmm(a, b).to(_wide(a))


CONVOLUTIONS = {"loop": _loop, "group": _group, "shift": _shifted}
KERNELS: dict[type[nn.Module], Kernel] = {
    nn.Conv2d: _convolution,
    nn.Linear: _linear,
    nn.GroupNorm: _group_norm,
    nn.Embedding: _embedding,
}
