"""Divides the records into disjoint shards, by a keyed hash of each record alone.

A record's shard, and its place in the shard, follow from its own pixels, its own label and a secret
key. Adding or removing it therefore changes one shard and leaves every other one equal in every
bit: which records are in it, their order, and the padding. An index, a row number, a shuffled list
or an order over all records would move records of other shards.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dpgen.privacy.mechanisms.contributions import Records
from dpgen.privacy.mechanisms.ensemble import NoisyEnsemble
from dpgen.privacy.mechanisms.micro_batches import filled
from dpgen.privacy.mechanisms.noise import NoiseSource

Shard = tuple[Tensor, Tensor, Tensor]  # pixels (capacity, C, H, W), labels and valid (capacity,)
BLOCK = 256  # records that are read at once
SHARD_BYTES = 8  # of a tag; the others order the records of a shard


def shard_slots(
    mechanism: NoisyEnsemble, records: Records, noise: NoiseSource
) -> list[np.ndarray]:
    """Returns the slots of each shard's records, in the order of their tags: at most ``capacity``
    of them. What is past the capacity is dropped within its shard, by the same order. An invalid
    record is in no shard.
    """
    tagged: list[list[tuple[bytes, int]]] = [[] for _ in range(mechanism.n_shards)]
    for first in range(0, records.n_slots, BLOCK):
        slots = np.arange(first, min(first + BLOCK, records.n_slots))
        pixels, labels, valid = records.read(slots)
        for row in np.flatnonzero(valid.numpy()):
            tag = noise.tag(_content(pixels[row], int(labels[row])))
            shard = int.from_bytes(tag[:SHARD_BYTES], "big") % mechanism.n_shards
            tagged[shard].append((tag[SHARD_BYTES:], int(slots[row])))
    # Two records of one tag are equal, so that their order changes nothing.
    return [
        np.array([slot for _, slot in sorted(one)[: mechanism.capacity]], dtype=np.int64)
        for one in tagged
    ]


def read_shard(mechanism: NoisyEnsemble, records: Records, slots: np.ndarray) -> Shard:
    """Reads the records of a shard that is not empty, filled up to its capacity with rows that are
    not valid: all shards have the same shape.
    """
    return filled(*records.read(slots), mechanism.capacity)


def _content(image: Tensor, label: int) -> bytes:
    """Returns the bytes that a record is recognised by."""
    pixels = image.detach().to("cpu", torch.float32).contiguous()
    return f"{list(pixels.shape)}:{label}:".encode() + pixels.numpy().tobytes()
