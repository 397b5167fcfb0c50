"""The best at a glance: a tile per epsilon, with what the winner's samples look like."""

from __future__ import annotations

from pathlib import Path

from dpgen.evaluation.metrics import Metric, headlines
from dpgen.report.charts import sign
from dpgen.report.gallery import Picture, Reader, picture
from dpgen.report.markup import Markup, element, together
from dpgen.report.results import Results

__all__ = ["glance"]


def glance(results: Results, reader: Reader | Path | None) -> Markup | None:
    """Shows, for each epsilon, the best by accuracy and by FID, and the methods equal to it."""
    metrics = headlines(results.metrics)[::-1]
    tiles = []
    for epsilon in results.epsilons:
        parts = [_best(results, m, epsilon, m is metrics[0]) for m in metrics]
        winners = [w for m in metrics if (w := results.winner(m, epsilon)) is not None]
        if winners:
            shown = picture(results, winners[0], epsilon, reader)
            image = None
            if isinstance(shown, Picture):
                image = element("img", src=shown.uri, width=shown.width, height=shown.height,
                                alt=f"Samples of {winners[0]} at epsilon {epsilon:g}")  # fmt: skip
            tiles.append(
                element("div", element("h3", f"epsilon {epsilon:g}"), image, *parts, class_="tile")
            )
    if not tiles:
        return None
    title = element("h2", "The best at a glance", class_="hidden")
    return together(title, element("div", *tiles, class_="tiles"))


def _best(results: Results, metric: Metric, epsilon: float, first: bool) -> Markup | None:
    label = results.winner(metric, epsilon)
    found = results.estimate(metric, label, epsilon) if label is not None else None
    if label is None or found is None:
        return None
    value = metric.number(found.mean, results.decimals(metric)) + (" %" if metric.percent else "")
    level = [k for k in results.best(metric, epsilon) if k != label]
    return element(
        "div",
        element("p", value, element("small", f" {metric.title}"), class_="big" if first else None),
        element("p", sign(list(results.methods).index(label)), element("b", label), class_="who"),
        element("p", f"level with it: {', '.join(level)}", class_="soft") if level else None,
        class_="first" if first else "second",
    )
