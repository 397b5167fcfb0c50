"""Class counts from noisy ones: what the noise is known to add to their spread is taken out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpgen.runs.class_counts import towards_equal

if TYPE_CHECKING:
    from torch import Tensor


def shrunk_counts(noisy: Tensor, noise: float, n_records: int) -> Tensor:
    """Shrinks class counts (K,) as `towards_equal` does; none falls below a tenth of an equal
    share.

    Args:
        noisy: released counts, (K,).
        noise: standard deviation of their noise.
        n_records: the public, declared number of records.
    """
    equal = n_records / len(noisy)
    return towards_equal(noisy, noise, n_records).clamp_min(0.1 * equal)
