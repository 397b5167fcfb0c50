"""Prepares blocks of images for writing: checks, rounds to uint8, cuts at the borders of shards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from dpgen.data.formats.records import check_labels
from dpgen.images.images import Images, to_uint8

Pieces = Iterator[tuple[np.ndarray, np.ndarray]]  # uint8 (B, H, W, C) and int64 (B,), in order


def checked_blocks(blocks: Iterable[Images], n_images: int, n_classes: int) -> Pieces:
    """Yields the blocks as uint8 (B, H, W, C) and labels. Raises ValueError if they are not as
    announced.
    """
    shape, n_seen = None, 0
    for block in blocks:
        pixels, labels = block.pixels, block.labels
        if pixels.ndim != 4 or pixels.shape[1] not in (1, 3) or labels.shape != pixels.shape[:1]:
            raise ValueError(
                "blocks must hold pixels (B, C, H, W) with 1 or 3 channels and as many labels, "
                f"got {tuple(pixels.shape)} and {tuple(labels.shape)}"
            )
        shape = shape or tuple(pixels.shape[1:])
        if tuple(pixels.shape[1:]) != shape:
            raise ValueError(
                f"blocks must have one shape, got {shape} and {tuple(pixels.shape[1:])}"
            )
        found = labels.cpu().numpy().astype(np.int64)
        check_labels(found, n_classes, f"the block at image {n_seen}")
        n_seen += len(found)
        if n_seen > n_images:
            break
        if len(found):
            yield to_uint8(pixels).permute(0, 2, 3, 1).contiguous().cpu().numpy(), found
    if n_seen != n_images:
        amount = "more" if n_seen > n_images else n_seen
        raise ValueError(f"blocks must hold n_images = {n_images} images, got {amount}")


def cut_blocks(blocks: Pieces, shard_size: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yields the same images with the number of their shard, cut where a block crosses a border."""
    n_seen = 0
    for pixels, labels in blocks:
        start = 0
        while start < len(labels):
            n_here = min(len(labels) - start, shard_size - n_seen % shard_size)
            yield (
                n_seen // shard_size,
                pixels[start : start + n_here],
                labels[start : start + n_here],
            )
            start += n_here
            n_seen += n_here
