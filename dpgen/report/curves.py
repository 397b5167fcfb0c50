"""Every metric against epsilon, with published numbers by the same metric."""

from __future__ import annotations

from dpgen.evaluation.metrics import Metric, headlines
from dpgen.report.charts import Line, chart, legend, letter
from dpgen.report.markup import Markup, element, together
from dpgen.report.published import comparable
from dpgen.report.results import Results

__all__ = ["curves"]


def curves(results: Results) -> Markup:
    """Draws the headline metrics large, with published numbers, and all others behind a fold."""
    first = headlines(results.metrics)
    if not first:
        return element("p", "No cell has a metric yet.")
    rest = [m for m in results.metrics if m not in first]
    large = [_figure(results, metric) for metric in first]
    more = element(
        "details",
        element("summary", f"Curves of the other {len(rest)} metrics"),
        element("div", *(_figure(results, m) for m in rest), class_="charts little"),
    )
    return together(
        legend({label: results.unverified(label) for label in results.methods}),
        element("div", *large, class_="charts"),
        element(
            "p",
            "Marks are means over seeds, bars one standard error, small dots single seeds; methods "
            "stand side by side at each epsilon.",
            class_="small soft after",
        ),
        more if rest else None,
    )


def _figure(results: Results, metric: Metric) -> Markup:
    lines = []
    for style, label in enumerate(results.methods):
        points = [(e, results.estimate(metric, label, e)) for e in results.epsilons]
        kept = tuple((e, found) for e, found in points if found is not None)
        if kept:
            lines.append(Line(label, style, kept, results.unverified(label)))
    better = {"low": "lower is better", "high": "higher is better", None: None}[metric.better]
    others = comparable(results.data, metric.name, results.epsilons)
    key = [
        element(
            "li",
            element("b", letter(i, row)),
            f" {row.method}, {row.protocol}. ",
            "Claimed; the guarantee is not verified. " if row.claim else None,
            element("a", row.source, href=row.url),
        )
        for i, row in enumerate(others)
    ]
    caption = element(
        "figcaption",
        metric.title[:1].upper() + metric.title[1:],
        None if better is None else element("span", f" {better}"),
    )
    if not lines:
        return element("figure", caption, element("p", "No finished cell has a number."))
    return element(
        "figure",
        caption,
        chart(
            f"chart-{results.metrics.index(metric)}",
            metric,
            results.decimals(metric),
            results.epsilons,
            lines,
            real={
                name: values[metric.name]
                for name, values in results.references.items()
                if metric.name in values
            },
            others=others,
        ),
        element("p", "Published by others, dashed:", class_="key") if key else None,
        element("ul", *key, class_="key") if key else None,
    )
