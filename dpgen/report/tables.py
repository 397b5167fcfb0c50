"""All metrics, and what became of every cell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dpgen.evaluation.metrics import Metric
from dpgen.report.markup import Markup, element, together
from dpgen.report.results import Outcome, Results

__all__ = ["certified", "box", "heading", "numbers", "progress", "real", "seeds", "table"]

MARKS = {"done": "●", "failed": "✕", "missing": "○"}


def progress(results: Results) -> Markup:
    """Makes the table of progress, with a mark per cell."""
    rows = []
    for label in results.methods:
        cells = []
        for epsilon in results.epsilons:
            states = ["missing" if o is None else o.status for o in results.group(label, epsilon)]
            words = "; ".join(
                f"seed {seed}: {state}" for seed, state in zip(results.seeds, states, strict=True)
            )
            marks = [
                element("span", MARKS[s], class_="bad" if s == "failed" else None) for s in states
            ]
            cells.append(
                element(
                    "td",
                    element("span", *marks, aria_hidden="true", title=words),
                    element("span", words, class_="hidden"),
                )
            )
        rows.append(element("tr", element("th", label, scope="row"), *cells))
    heads = ["Method", *(f"epsilon {epsilon:g}" for epsilon in results.epsilons)]
    return box("Cells by method and epsilon", "cells", heads, [element("tbody", *rows)])


def table(results: Results) -> Markup:
    """Writes all metrics: epsilons one under the other, methods within each, then real images."""
    metrics = results.metrics
    heads = ["Method", *(heading(m) for m in metrics), "Seeds", "Certified epsilon"]
    bodies = []
    for epsilon in results.epsilons:
        group = element("th", f"epsilon {epsilon:g}", class_="group", scope="rowgroup",
                        colspan=len(heads))  # fmt: skip
        rows = [element("tr", group)]
        for label in results.methods:
            told = seeds(results, label, epsilon)
            whole = len(results.done(label, epsilon)) == len(results.seeds)
            cells = [
                *(_value(results, metric, label, epsilon) for metric in metrics),
                told,
                certified(results.done(label, epsilon)),
            ]
            note = None if whole else element("small", told, class_="bad")
            head = element("th", label, None if whole else " ", note, scope="row")
            rows.append(element("tr", head, *(element("td", cell) for cell in cells)))
        bodies.append(element("tbody", *rows))
    for name in results.references:
        cells = [*(real(results, m, name) for m in metrics), "–", "–"]
        head = element("th", f"{name} images", scope="row")
        bodies.append(element("tbody", element("tr", head, *(element("td", c) for c in cells))))
    return box("All metrics", "numbers", heads, bodies)


def box(name: str, kind: str, heads: Sequence[str], bodies: Sequence[Markup]) -> Markup:
    """Makes a table that scrolls by itself in a narrower window, by keyboard too."""
    row = element("tr", *(element("th", head, scope="col") for head in heads))
    return element(
        "div",
        element("table", element("thead", row), *bodies, class_=kind),
        class_="scroll", tabindex=0, role="region", aria_label=name,
    )  # fmt: skip


def real(results: Results, metric: Metric, name: str) -> str:
    """Formats a metric of real images; a dash where it was not measured."""
    values = results.references[name]
    if metric.name not in values:
        return "–"
    return metric.number(values[metric.name], results.decimals(metric))


def heading(metric: Metric) -> str:
    return f"{metric.heading} (%)" if metric.percent else metric.heading


def seeds(results: Results, label: str, epsilon: float) -> str:
    """Says how many of the seeds are there, and what became of the others."""
    group = results.group(label, epsilon)
    failed = sum(o is not None and not o.done for o in group)
    missing = sum(o is None for o in group)
    words = [f"{len(group) - failed - missing} of {len(group)}"]
    words += [f"{failed} failed"] if failed else []
    words += [f"{missing} missing"] if missing else []
    return ", ".join(words)


def certified(outcomes: Iterable[Outcome]) -> str:
    """Formats the largest epsilon that the finished cells state; "not verified" for a claim."""
    stated = [o.privacy or {} for o in outcomes]
    if not stated:
        return "–"
    if not all(p.get("verified") is True for p in stated):
        return "not verified"
    numbers = [p.get("epsilon") for p in stated]
    known = [n for n in numbers if isinstance(n, int | float)]
    return str(max(known)).removesuffix(".0") if len(known) == len(numbers) else "not stated"


def _value(results: Results, metric: Metric, label: str, epsilon: float) -> Markup:
    found = results.estimate(metric, label, epsilon)
    n_broken = sum(metric.name in o.broken for o in results.done(label, epsilon))
    note = element("span", f" ({n_broken} no number)", class_="bad") if n_broken else None
    if found is None:
        return together("–", note)
    text = numbers(metric, results, label, epsilon)
    best = label in results.best(metric, epsilon)
    return together(element("strong", text) if best else text, note)


def numbers(metric: Metric, results: Results, label: str, epsilon: float) -> str:
    """Formats mean and standard error without a unit; a dash where there is no value."""
    found = results.estimate(metric, label, epsilon)
    return "–" if found is None else metric.text(found, results.decimals(metric)).removesuffix(" %")
