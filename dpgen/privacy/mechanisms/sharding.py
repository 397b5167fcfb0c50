"""Divides the records into disjoint shards, by a keyed hash of each record alone or by its silo.

A record's shard, and its place in the shard, follow from its own pixels, its own label, its own
silo id and a secret key. Adding or removing it therefore changes one shard and leaves every other
one equal in every bit: which records are in it, their order, and the padding. An index, a row
number, a shuffled list, an order over all records or a numbering of the silos that are there would
move records of other shards.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dpgen.privacy.mechanisms.contributions import InSilos, Records
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
    record is in no shard. Silos are numbered as they were declared.
    """
    tagged: list[list[tuple[bytes, int]]] = [[] for _ in range(mechanism.n_shards)]
    for first in range(0, records.n_slots, BLOCK):
        slots = np.arange(first, min(first + BLOCK, records.n_slots))
        pixels, labels, valid = records.read(slots)
        homes = None if mechanism.silos is None else silo_numbers(mechanism, records, slots)
        for row in np.flatnonzero(valid.numpy()):
            tag = noise.tag(_content(pixels[row], int(labels[row])))
            hashed = int.from_bytes(tag[:SHARD_BYTES], "big") % mechanism.n_shards
            shard = hashed if homes is None else int(homes[row])
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


def silo_numbers(mechanism: NoisyEnsemble, records: Records, slots: np.ndarray) -> np.ndarray:
    """Returns the number of each record's silo, (B,). Raises TypeError for records that have none:
    they are never divided by another rule in its place.
    """
    if not isinstance(records, InSilos):
        raise TypeError("an ensemble whose shards are silos needs records that each name a silo")
    found = records.silo_of(slots)
    if not ((found >= 0) & (found < mechanism.n_shards)).all():
        raise ValueError(f"a record must be of one of the {mechanism.n_shards} silos")
    return found


def _content(image: Tensor, label: int) -> bytes:
    """Returns the bytes that a record is recognised by."""
    pixels = image.detach().to("cpu", torch.float32).contiguous()
    return f"{list(pixels.shape)}:{label}:".encode() + pixels.numpy().tobytes()
