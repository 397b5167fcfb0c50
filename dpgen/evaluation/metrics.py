"""The table of metrics, and how their values are named, ordered and written.

A metric is one row: its title, its direction and its function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from dpgen.evaluation.comparison import ComparedFeatures, ComparedImages, Value
from dpgen.evaluation.extraction import statistics
from dpgen.evaluation.feature_distances import frechet_distance, kernel_distance, score

__all__ = ["METRICS", "Estimate", "Metric", "Row", "estimate", "headlines", "ordered"]

NETWORKS = ("", "classifier_")  # prefix of a metric's name: the network whose features it compares
OWN = "custom_"  # before the name of a network of the user's own


@dataclass(frozen=True)
class Row:
    """A metric in the table; it has one of the two functions.

    Args:
        title: its name in tables and pictures.
        better: whether high or low values are better.
        of_features: its value from the features of a network; its name in the results begins with
            the network's, unless that is Inception.
        of_images: its value from pixels and labels.
        inception_name: its name by Inception's features, where it has one of its own.
        of_logits: whether it needs logits, which features of the user's own lack.
        meaning: what its value says, in a few words.
    """

    title: str
    better: Literal["high", "low"]
    of_features: Callable[[ComparedFeatures], Value] | None = None
    of_images: Callable[[ComparedImages], Value] | None = None
    inception_name: str | None = None
    of_logits: bool = False
    meaning: str = ""

    def __post_init__(self) -> None:
        if (self.of_features is None) == (self.of_images is None):
            raise ValueError(
                f"metric {self.title!r} must have one function, either of_features or of_images"
            )


def fid(both: ComparedFeatures) -> Value:
    return Value(frechet_distance(statistics(both.synthetic), both.reference))


def kid(both: ComparedFeatures) -> Value:
    full = both.protocol
    size, real = full.kid_subset_size, both.reference.features
    assert size is not None
    mean, std = kernel_distance(
        both.synthetic, real, n_subsets=full.n_kid_subsets, subset_size=size, seed=full.seed
    )
    # Subsets that are all of both sides are one and the same: they have no spread.
    return Value(mean, None if size == len(both.synthetic) == len(real) else std)


def class_score(both: ComparedFeatures) -> Value:
    n_parts = both.protocol.n_score_parts
    assert n_parts is not None
    mean, std = score(both.logits, n_parts=n_parts, seed=both.protocol.seed)
    return Value(mean, std if n_parts > 1 else None)


METRICS: dict[str, Row] = {
    "fid": Row("FID", "low", fid, meaning="Frechet distance between the features of both sides, "
               "each taken as a normal distribution"),
    "kid": Row("KID", "low", kid, meaning="kernel distance, the squared maximum mean discrepancy "
               "between the features of both sides: about 0 for equal distributions, by chance "
               "also a little below"),
    "score": Row("score", "high", class_score, inception_name="inception_score", of_logits=True,
                 meaning="how surely each image shows one class, and all together every class"),
    "precision": Row("precision", "high", lambda both: Value(both.precision_recall[0]),
                     meaning="share of synthetic images as near to a real one as real ones are"),
    "recall": Row("recall", "high", lambda both: Value(both.precision_recall[1]),
                  meaning="share of real images as near to a synthetic one as synthetic ones are"),
    "density": Row("density", "high", lambda both: Value(both.density_coverage[0]),
                   meaning="precision that counts how many real images are so near; about 1 for "
                   "equal distributions"),
    "coverage": Row("coverage", "high", lambda both: Value(both.density_coverage[1]),
                    meaning="share of real images with a synthetic one as near as real ones are"),
}  # fmt: skip
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
    """Computes mean and standard error, the sample standard deviation over sqrt(n); None of
    nothing.
    """
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
        prefix, stem = _parts(self.name)
        if stem is None:
            return self.name.replace("_", " "), None
        title, better = _titles()[stem]
        return f"{prefix.replace('_', ' ')}{title}", better

    @property
    def title(self) -> str:
        return self._known[0]

    @property
    def better(self) -> str | None:
        """Returns ``"high"``, ``"low"``, or None where the name does not say."""
        return self._known[1]

    @property
    def meaning(self) -> str:
        """Returns what its value says, by a metric of features; "" of others."""
        stem = _parts(self.name)[1]
        rows = (r for n, r in METRICS.items() if stem and stem in (n, r.inception_name))
        return next((row.meaning for row in rows), "")

    @property
    def heading(self) -> str:
        return f"{self.title} {ARROWS[self.better]}".strip()

    @property
    def percent(self) -> bool:
        """Returns whether values are fractions that are written as percentages."""
        return self.name.startswith(ACCURACY)

    def decimals(self, means: Iterable[float]) -> int:
        """Returns the number of digits behind the point: three significant ones of the least mean,
        from 1 to 4.
        """
        least = min((abs(m) for m in means if m), default=1.0)
        return 1 if self.percent else min(4, max(1, 2 - math.floor(math.log10(least))))

    def number(self, value: float, decimals: int) -> str:
        return f"{100 * value if self.percent else value:.{decimals}f}"

    def text(self, found: Estimate, decimals: int) -> str:
        """Writes mean and standard error, with their unit."""
        words = self.number(found.mean, decimals)
        if found.error is not None:
            words += f" ± {self.number(found.error, decimals)}"
        return f"{words} %" if self.percent else words


def _titles() -> dict[str, tuple[str, str]]:
    """Returns title and direction by name in the results, in the order of the table."""
    found: dict[str, tuple[str, str]] = {}
    for name, row in METRICS.items():
        if row.inception_name is not None:
            found[row.inception_name] = (row.inception_name.replace("_", " "), row.better)
        found[name] = (row.title, row.better)
    return found


def _parts(name: str) -> tuple[str, str | None]:
    """Splits a name into that of a network and that of a metric; ``None`` where it is no metric of
    features.
    """
    known = _titles()
    for prefix in NETWORKS:
        if name.startswith(prefix) and (stem := name.removeprefix(prefix)) in known:
            return prefix, stem
    if name.startswith(OWN):
        for stem in sorted(known, key=len, reverse=True):
            if name.endswith(f"_{stem}") and len(name) > len(OWN) + len(stem) + 1:
                return name.removesuffix(stem), stem
    return name, None


def ordered(names: Iterable[str]) -> tuple[Metric, ...]:
    """Returns every name once: FID, accuracies, the rest in the order of `METRICS`, then whatever
    else.
    """
    stems = list(_titles())

    def rank(name: str) -> tuple[int, int, int]:
        if name.startswith(ACCURACY):
            return 1, 0, 0
        prefix, stem = _parts(name)
        if stem is None:
            return 3, 0, 0
        network = NETWORKS.index(prefix) if prefix in NETWORKS else len(NETWORKS)
        return (0, network, 0) if stem == "fid" else (2, network, stems.index(stem))

    return tuple(Metric(name) for name in sorted(dict.fromkeys(names), key=rank))


def headlines(metrics: Iterable[Metric]) -> tuple[Metric, ...]:
    """Picks FID, by Inception where it was measured, and accuracy, of a CNN where it was measured.
    """
    names = {m.name: m for m in metrics}
    fid = [n for n in FID if n in names]
    accuracy = [n for n in FIRST_ACCURACY if n in names]
    accuracy += [n for n in names if n.startswith(ACCURACY)]
    return tuple(names[found[0]] for found in (fid, accuracy) if found)
