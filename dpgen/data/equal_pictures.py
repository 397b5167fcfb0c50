"""Finds pictures of equal pixels within a split, and in two."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np

from dpgen.data.sources import RecordSource


def shared(apart: RecordSource, other: str, split: str, known: dict[bytes, int]) -> list[str]:
    """Describes how many pictures of another split are among the known ones."""
    n_shared = sum(_content(raw) in known for raw, _ in apart.raw_records())
    if not n_shared:
        return []
    return [
        f"records of the split {other} with the very pixels of one of {split}: {n_shared}; what is "
        "held out must not be learned from"
    ]


def _content(raw: np.ndarray) -> bytes:
    key = str(raw.shape).encode()
    return hashlib.blake2b(raw.tobytes(), digest_size=16, key=key).digest()


def stored_pictures(source: RecordSource) -> tuple[Counter[str], list[str], dict[bytes, int]]:
    """Counts the records stored in each shape, describes how many pictures are equal, and returns
    the label of each by a hash of its pixels.
    """
    shapes: Counter[str] = Counter()
    seen: dict[bytes, int] = {}
    n_equal = n_unlike = 0
    for raw, label in source.raw_records():
        shapes["x".join(map(str, raw.shape))] += 1
        content = _content(raw)
        first = seen.get(content)
        if first is None:
            seen[content] = label
            continue
        n_equal += 1
        n_unlike += first != label
    if not n_equal:
        return shapes, [], seen
    equal = [
        f"records with the very pixels of an earlier one: {n_equal}, of these under another label: "
        f"{n_unlike}; each is read, and is a record of its own"
    ]
    return shapes, equal, seen
