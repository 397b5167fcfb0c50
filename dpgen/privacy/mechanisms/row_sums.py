"""The two float64 passes over per-record gradients: sums of squares along rows, weighted sum of
rows.

Numbers are float32 (or float64); each is converted to float64 before it is squared, scaled or
added, a few at a time, so that there is never a float64 copy of all of them. On a GPU with Triton
each pass is one kernel that reads every number once; its blocks and their order are fixed, not
chosen by timing, so that equal numbers have equal sums.
"""

# ruff: noqa: ANN001, ANN202  arguments of a kernel have no types
from __future__ import annotations

import torch
from torch import Tensor

try:  # comes with PyTorch for NVIDIA GPUs
    import triton  # type: ignore[import-not-found, unused-ignore]
    import triton.language as tl  # type: ignore[import-not-found, unused-ignore]
except ImportError:
    triton = None

__all__ = ["row_squares", "weighted_sum"]

# Float64 copies are made this many numbers at a time.
CHUNKS = {"cpu": 2**20, "cuda": 2**25}
BLOCK, SPAN = 1024, 16384  # numbers of a row that a program holds at once, and reads in total
FEWEST, PROGRAMS = 16, 1024  # rows that a program adds, at least; programs that keep a GPU busy


def row_squares(g: Tensor) -> Tensor:
    """Returns the sum of squares along every row of ``g`` (B, n) as (B,) float64. The square of a
    float32 number is exact.
    """
    if _fused(g):
        n_spans = -(-g.shape[1] // SPAN)
        parts = torch.empty(len(g), n_spans, dtype=torch.float64, device=g.device)
        _squares_kernel[len(g), n_spans](g, parts, g.shape[1], n_spans, BLOCK, SPAN)
        return parts.sum(1)
    if g.is_cuda:
        return torch.linalg.vector_norm(g, dim=1, dtype=torch.float64).square()
    wide = (row.double() for row in g)
    return torch.stack([row.dot(row) for row in wide])


def weighted_sum(weights: Tensor, g: Tensor) -> Tensor:
    """Returns the sum of the rows of ``g`` (B, n), each times its weight, (B,) float64, as (n,)
    float64. A row of weight zero is left out, also where it holds NaN or infinity.
    """
    if _fused(g):
        n_rows, n = g.shape
        n_blocks, n_spans = _divided(n_rows, n)
        parts = torch.empty(n_spans, n, dtype=torch.float64, device=g.device)
        span = -(-n_rows // n_spans)
        _weighted_kernel[n_blocks, n_spans](g, weights, parts, n_rows, n, span, BLOCK)
        return parts.sum(0)
    width = max(1, CHUNKS[g.device.type] // len(g))
    return torch.cat([_weighted(weights, part) for part in g.split(width, 1)])


def _weighted(weights: Tensor, g: Tensor) -> Tensor:
    wide = g.to(torch.float64, copy=True)
    # Zero times infinity is NaN.
    if g.is_cuda:  # without waiting for the device
        wide.masked_fill_((weights == 0)[:, None], 0.0)
    else:
        wide.index_fill_(0, (weights == 0).nonzero().flatten(), 0.0)
    return weights @ wide


def _divided(n_rows: int, n: int) -> tuple[int, int]:
    """Returns into how many blocks of columns and spans of rows a weighted sum is divided, from the
    shape alone: tensors of few numbers are added by many programs, too.
    """
    n_blocks = -(-n // BLOCK)
    return n_blocks, min(-(-n_rows // FEWEST), -(-PROGRAMS // n_blocks))


def _fused(g: Tensor) -> bool:
    return triton is not None and g.is_cuda and g.is_contiguous()


if triton is not None:

    @triton.jit  # type: ignore[untyped-decorator, unused-ignore]
    def _squares_kernel(g, found, n, n_spans, block: tl.constexpr, span: tl.constexpr):  # type: ignore[no-untyped-def]
        row = tl.program_id(0).to(tl.int64)
        first = tl.program_id(1) * span
        held = tl.zeros((block,), dtype=tl.float64)
        for start in range(0, span, block):
            at = first + start + tl.arange(0, block)
            x = tl.load(g + row * n + at, mask=at < n, other=0.0).to(tl.float64)
            held += x * x
        tl.store(found + row * n_spans + tl.program_id(1), tl.sum(held, axis=0))

    @triton.jit  # type: ignore[untyped-decorator, unused-ignore]
    def _weighted_kernel(g, weights, found, n_rows, n, span, block: tl.constexpr):  # type: ignore[no-untyped-def]
        at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
        held = tl.zeros((block,), dtype=tl.float64)
        first = tl.program_id(1) * span
        place = g + first.to(tl.int64) * n + at  # it steps on by rows: their product may pass 2**31
        for row in range(first, tl.minimum(first + span, n_rows)):
            weight = tl.load(weights + row)
            x = tl.load(place, mask=at < n, other=0.0).to(tl.float64)
            place += n
            held += tl.where(weight > 0, weight * x, 0.0)
        tl.store(found + tl.program_id(1).to(tl.int64) * n + at, held, mask=at < n)
