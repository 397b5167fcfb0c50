"""Shows what a cell takes: wall time of its parts, and memory."""

from __future__ import annotations

from collections.abc import Mapping

from dpgen.evaluation.metrics import estimate
from dpgen.report.markup import Markup, element, together
from dpgen.report.results import Results

__all__ = ["costs", "duration", "spent"]

PARTS = ("train", "sample", "evaluate")  # of a cell that have a colour


def costs(results: Results) -> Markup:
    """Shows time and memory of a cell by method: the mean over all finished cells, as bars."""
    found: dict[str, tuple[dict[str, float], float | None]] = {}
    for label in results.methods:
        cells = [o for epsilon in results.epsilons for o in results.done(label, epsilon)]
        parts = dict.fromkeys(name for cell in cells for name in cell.seconds)
        means = {name: sum(c.seconds.get(name, 0.0) for c in cells) / len(cells) for name in parts}
        peaks = [c.peak_mib for c in cells if c.peak_mib is not None]
        if cells:
            found[label] = means, max(peaks, default=None)
    longest = max((sum(means.values()) for means, _ in found.values()), default=0.0) or 1.0
    return element("ul", *(_cost(results, k, *found[k], longest) for k in found), class_="costs")


def _cost(
    results: Results, label: str, means: Mapping[str, float], peak: float | None, longest: float
) -> Markup:
    spans = (
        element("span", class_=name if name in PARTS else None,
                style=f"width:{100 * seconds / longest:.2f}%")
        for name, seconds in means.items()
    )  # fmt: skip
    words = [
        together(element("i", class_=f"swatch {name if name in PARTS else ''}"),
                 f"{name} {duration(seconds)}")
        for name, seconds in means.items()
    ]  # fmt: skip
    memory = None if peak is None else f"; at most {peak:,.0f} MiB"
    owners = {o.shared for e in results.epsilons for o in results.done(label, e) if o.shared}
    return element(
        "li",
        element("div", element("b", label),
                element("span", *words, memory, class_="small soft"), class_="names"),
        element("div", *spans, class_="bar", aria_hidden="true"),
        *(element("div", f"draws from the release of {owner}: nothing more is trained or charged",
                  class_="small soft") for owner in sorted(map(str, owners))),
    )  # fmt: skip


def duration(seconds: float) -> str:
    """Formats seconds in the largest unit that leaves at least 2, with a decimal if it is short."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def spent(results: Results, label: str, epsilon: float) -> str:
    """Formats the mean time of a cell over seeds, all of its parts together."""
    found = estimate(sum(o.seconds.values()) for o in results.done(label, epsilon) if o.seconds)
    return "–" if found is None else duration(found.mean)
