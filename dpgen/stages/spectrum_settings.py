"""The settings of the spectrum: class Gaussians of low frequencies."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

from dpgen.images.facts import PublicFacts

# From public facts alone; what the noise leaves of moments is known after the release, and shrunk.
FEW_RECORDS, FEW_BANDS, MANY_BANDS = 500, 8, 14
OWN_SPREAD_RECORDS = 100  # a class, from which on each has a covariance of its own
MOST_SPREADS = 20


@dataclass(frozen=True)
class SpectrumSettings:
    """The settings of a spectrum.

    Args:
        bands: the released cosines (of the DCT) are those whose frequencies down and across, u and
            v, have u + v < bands; unless given, 14 from 500 records on, else 8.
        own_spread: whether each class has its own covariance; unless given, it has from 100 records
            a class on, up to 20 classes.
        centre_share: share of mu^2 of the mean over all records and of the class counts.
        scale_share: share of mu^2 of the distance from that mean within which 85 % of the records
            lie, the unit of what is released next.
        detail: strength of the made-up texture above the bands, 1 for that of the records.
    """

    bands: int | None = None
    own_spread: bool | None = None
    centre_share: float = 0.1
    scale_share: float = 0.05
    detail: float = 1.0

    def __post_init__(self) -> None:
        if self.bands is not None and self.bands < 1:
            raise ValueError(f"bands must be at least 1, got {self.bands}")
        for name in ("centre_share", "scale_share"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in (0, 1), got {getattr(self, name)}")
        if not self.centre_share + self.scale_share < 1:
            raise ValueError(
                f"centre_share and scale_share must leave something, got {self.centre_share} and "
                f"{self.scale_share}"
            )
        if not 0 <= self.detail < math.inf:
            raise ValueError(f"detail must be at least 0, got {self.detail}")

    def resolved(self, facts: PublicFacts) -> Self:
        """Returns these settings with every ``None`` filled in for the facts."""
        n, k = facts.n_records, facts.n_classes
        bands, own = self.bands, self.own_spread
        if bands is None:
            bands = MANY_BANDS if n >= FEW_RECORDS else FEW_BANDS
        if own is None:
            own = k <= MOST_SPREADS and n / k >= OWN_SPREAD_RECORDS
        return replace(self, bands=bands, own_spread=own)

    @property
    def shares(self) -> list[float]:
        """Splits mu^2 into centre, scale and moments; 1 in all."""
        a, b = self.centre_share, self.scale_share
        return [a, b, 1 - a - b]
