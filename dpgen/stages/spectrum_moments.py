r"""Defines what the spectrum asks of the records: a centre, a scale, and moments in their units.

Three Gaussian releases, each adaptive. With c(x) the m low-frequency coefficients of a record x
with label y, t(x) the norm of what they leave out, and R the largest norm of an image,

    centre    one row:  cos(a) c(x) / R             row y:  sin(a)
    scale     one row:  the unit vector of the bin that ||c(x) - c0|| falls into
    moments   v = (c(x) - c0) / s,  e = t(x) / s,   each clipped to norm 1
              row y:    f v     row 0 or y:  g sym(v v')     row y:  h (||v||^2, e^2)

where c0 and s are made of the first two releases, and f^2 + g^2 + 2 h^2 = 1. ||v||, e and the norm
of sym(v v') (`dpgen.stages.moments.stack`), which is ||v||^2, are at most 1, and that of
(||v||^2, e^2) at most sqrt(2): a record adds a vector of norm at most 1 to each release. Classes
cost nothing, a record sits in one of them.

A clip around the origin would have to admit every image, pale ones with the largest norm; around
c0 it is as tight as the records allow, and the noise on second moments falls with s^2.

Privacy: theorem B2; adaptive composition of Gaussians is exact (theorem F3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from dpgen.networks.fixed.colour_cosines import ColourCosines
from dpgen.privacy.mechanisms.contributions import Block
from dpgen.stages.moments import shorten, stack

if TYPE_CHECKING:
    from torch import Tensor

CENTRE, SCALE, MOMENTS = "spectrum centre", "spectrum scale", "spectrum moments"
ANGLE = math.atan(0.2)  # between centre and counts
N_BINS = 12  # of half an octave, the last one for all that is longer than R sqrt(2)
# f, g, h: of sums, second moments and energies.
WEIGHTS = (math.sqrt(0.45), math.sqrt(0.45), math.sqrt(0.05))


def bin_edges(radius: float) -> list[float]:
    """Returns the upper ends of all bins but the last, in the units of pixels."""
    return [radius * 2 ** (0.5 * (k - N_BINS + 3)) for k in range(N_BINS - 1)]


@dataclass(frozen=True)
class SpectrumCentre:
    """The sum of all records' coefficients, and class counts.

    Args:
        basis: of the coefficients.
        n_classes: rows of the counts.
    """

    basis: ColourCosines
    n_classes: int

    @property
    def bound(self) -> float:
        return 1.0

    @property
    def count_scale(self) -> float:
        return math.sin(ANGLE)

    @property
    def tables(self) -> dict[str, tuple[int, int]]:
        return {"sum": (1, self.basis.n_coefficients), "counts": (self.n_classes, 1)}

    @property
    def settings(self) -> dict[str, Any]:
        return _settings(self, angle=ANGLE)

    def __call__(self, pixels: Tensor, labels: Tensor) -> dict[str, Block]:
        import torch

        x = shorten(self.basis.analyse(pixels) / self.basis.radius, 1.0)
        counts = torch.full((len(x), 1), self.count_scale, dtype=torch.float64)
        return {
            "sum": Block(x * math.cos(ANGLE), torch.zeros_like(labels)),
            "counts": Block(counts, labels),
        }


@dataclass(frozen=True)
class SpectrumScale:
    """How many records lie how far from the centre, in bins of half an octave.

    Args:
        basis: of the centre.
        n_classes: of the facts.
        centre: c0, (m,): a result of an earlier release, not a setting.
    """

    basis: ColourCosines
    n_classes: int
    centre: Tensor | None = field(default=None, compare=False, repr=False)

    def around(self, centre: Tensor) -> Self:
        return replace(self, centre=centre)

    @property
    def bound(self) -> float:
        return 1.0

    @property
    def tables(self) -> dict[str, tuple[int, int]]:
        return {"bins": (1, N_BINS)}

    @property
    def settings(self) -> dict[str, Any]:
        return _settings(self, edges=bin_edges(self.basis.radius))

    def __call__(self, pixels: Tensor, labels: Tensor) -> dict[str, Block]:
        import torch

        distances = _residuals(self.basis, self.centre, pixels)[0].norm(dim=1)
        edges = torch.tensor(bin_edges(self.basis.radius), dtype=torch.float64)
        bins = torch.nn.functional.one_hot(torch.bucketize(distances, edges), N_BINS).double()
        # What is no number has no bin: the mechanism leaves such records out.
        bins = bins + (0 * distances)[:, None]
        return {"bins": Block(bins, torch.zeros_like(labels))}


@dataclass(frozen=True)
class SpectrumMoments:
    """Class sums, second moments and energies around the centre, in units of the scale.

    Args:
        basis: of the coefficients.
        n_classes: rows of sums and energies.
        own_spread: whether each class has its own second moments.
        centre: c0, (m,), a result of an earlier release, not a setting.
        scale: s, likewise.
    """

    basis: ColourCosines
    n_classes: int
    own_spread: bool
    centre: Tensor | None = field(default=None, compare=False, repr=False)
    scale: float = field(default=1.0, compare=False, repr=False)

    def around(self, centre: Tensor, scale: float) -> Self:
        return replace(self, centre=centre, scale=scale)

    @property
    def bound(self) -> float:
        return 1.0

    @property
    def n_spreads(self) -> int:
        return self.n_classes if self.own_spread else 1

    @property
    def tables(self) -> dict[str, tuple[int, int]]:
        m = self.basis.n_coefficients
        squares = self.n_spreads, m * (m + 1) // 2
        return {"sums": (self.n_classes, m), "squares": squares, "energies": (self.n_classes, 2)}

    @property
    def settings(self) -> dict[str, Any]:
        return _settings(self, own_spread=self.own_spread, weights=list(WEIGHTS))

    def __call__(self, pixels: Tensor, labels: Tensor) -> dict[str, Block]:
        import torch

        c, outside = _residuals(self.basis, self.centre, pixels)
        v, e = shorten(c / self.scale, 1.0), (outside / self.scale).clamp(max=1)
        energies = torch.cat([v.square().sum(1, keepdim=True), e.square()], 1)
        f, g, h = WEIGHTS
        rows = labels if self.own_spread else torch.zeros_like(labels)
        return {
            "sums": Block(f * v, labels),
            "squares": Block(g * stack(v[:, :, None] * v[:, None, :]), rows),
            "energies": Block(h * energies, labels),
        }


def _residuals(
    basis: ColourCosines, centre: Tensor | None, pixels: Tensor
) -> tuple[Tensor, Tensor]:
    """Computes coefficients around the centre, (B, m), and the norm of what they leave out, (B,
    1).
    """
    if centre is None:
        raise RuntimeError("this release is around another one: call around(centre) first")
    c = basis.analyse(pixels)
    outside = pixels.double().flatten(1).square().sum(1) - c.square().sum(1)
    return c - centre, outside.clamp_min(0).sqrt()[:, None]


def _settings(
    statistic: SpectrumCentre | SpectrumScale | SpectrumMoments,
    **more: Any,  # noqa: ANN401
) -> dict[str, Any]:
    return {
        "name": type(statistic).__name__,
        "shape": list(statistic.basis.shape),
        "bands": statistic.basis.bands,
        "n_classes": statistic.n_classes,
        **more,
    }
