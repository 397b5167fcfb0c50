"""Class counts from noisy ones: what the noise is known to add to their spread is taken out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def shrunk_counts(noisy: Tensor, noise: float, n_records: int) -> Tensor:
    """Shrinks class counts (K,) towards equal ones; none falls below a tenth of an equal share.

    Args:
        noisy: released counts, (K,).
        noise: standard deviation of their noise.
        n_records: the public, declared number of records.

    Reference: Efron and Morris (1973), empirical Bayes estimation of several normal means.
    """
    expected = n_records / len(noisy)
    spread = ((noisy - expected).square().mean() - noise**2).clamp_min(0)
    counts = expected + (noisy - expected) * spread / (spread + noise**2)
    return counts.clamp_min(0.1 * expected)
