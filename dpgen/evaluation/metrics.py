"""What a metric's name says: its title, whether higher is better, how its values are written."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, stdev

__all__ = ["Estimate", "Metric", "estimate", "headlines", "ordered"]

NETWORKS = ("", "classifier_")  # prefix of a metric's name: the network whose features it compares
FIDELITY = {
    "fid": ("FID", "low"),
    "kid": ("KID", "low"),
    "inception_score": ("inception score", "high"),
    "score": ("score", "high"),
    "precision": ("precision", "high"),
    "recall": ("recall", "high"),
    "density": ("density", "high"),
    "coverage": ("coverage", "high"),
}
ACCURACY = "accuracy_"
FID = ("fid", "classifier_fid")
FIRST_ACCURACY = ("accuracy_cnn", "accuracy_mlp", "accuracy_logistic")
ARROWS = {"low": "↓", "high": "↑", None: ""}


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its standard error; None with fewer than two seeds."""

    mean: float
    error: float | None
    values: tuple[float, ...]

    @property
    def low(self) -> float:
        return self.mean - (self.error or 0.0)

    @property
    def high(self) -> float:
        return self.mean + (self.error or 0.0)


def estimate(values: Iterable[float]) -> Estimate | None:
    """Mean and standard error, the sample standard deviation over sqrt(n); None of nothing."""
    kept = tuple(values)
    if not kept:
        return None
    error = stdev(kept) / math.sqrt(len(kept)) if len(kept) > 1 else None
    return Estimate(fmean(kept), error, kept)


@dataclass(frozen=True)
class Metric:
    """A metric by its name in the results."""

    name: str

    @property
    def _known(self) -> tuple[str, str | None]:
        if self.name.startswith(ACCURACY):
            return f"accuracy, {self.name.removeprefix(ACCURACY)}", "high"
        for prefix in NETWORKS:
            stem = self.name.removeprefix(prefix)
            if self.name.startswith(prefix) and stem in FIDELITY:
                title, better = FIDELITY[stem]
                return f"{prefix.replace('_', ' ')}{title}", better
        return self.name.replace("_", " "), None

    @property
    def title(self) -> str:
        return self._known[0]

    @property
    def better(self) -> str | None:
        """``"high"``, ``"low"``, or None where the name does not say."""
        return self._known[1]

    @property
    def heading(self) -> str:
        return f"{self.title} {ARROWS[self.better]}".strip()

    @property
    def percent(self) -> bool:
        """Whether values are fractions that are written as percentages."""
        return self.name.startswith(ACCURACY)

    def decimals(self, means: Iterable[float]) -> int:
        """Digits behind the point: three significant ones of the least mean, from 1 to 4."""
        least = min((abs(m) for m in means if m), default=1.0)
        return 1 if self.percent else min(4, max(1, 2 - math.floor(math.log10(least))))

    def number(self, value: float, decimals: int) -> str:
        return f"{100 * value if self.percent else value:.{decimals}f}"

    def text(self, found: Estimate, decimals: int) -> str:
        """Mean and standard error, with their unit."""
        words = self.number(found.mean, decimals)
        if found.error is not None:
            words += f" ± {self.number(found.error, decimals)}"
        return f"{words} %" if self.percent else words


def ordered(names: Iterable[str]) -> tuple[Metric, ...]:
    """Every name once: FID, accuracies, the rest of fidelity, then whatever else."""
    fidelity = [prefix + stem for prefix in NETWORKS for stem in FIDELITY]

    def rank(name: str) -> tuple[int, int]:
        if name in FID:
            return 0, FID.index(name)
        if name.startswith(ACCURACY):
            return 1, 0
        return (2, fidelity.index(name)) if name in fidelity else (3, 0)

    return tuple(Metric(name) for name in sorted(dict.fromkeys(names), key=rank))


def headlines(metrics: Iterable[Metric]) -> tuple[Metric, ...]:
    """FID, by Inception where it was measured, and accuracy, of a CNN where it was measured."""
    names = {m.name: m for m in metrics}
    fid = [n for n in FID if n in names]
    accuracy = [n for n in FIRST_ACCURACY if n in names]
    accuracy += [n for n in names if n.startswith(ACCURACY)]
    return tuple(names[found[0]] for found in (fid, accuracy) if found)
