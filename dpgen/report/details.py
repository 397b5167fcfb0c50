"""Writes what a reader unfolds: privacy statements, published numbers, protocol and settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpgen.report.markup import Markup, element, escape, together
from dpgen.report.published import comparable, published
from dpgen.report.results import Outcome, Results
from dpgen.report.tables import box

__all__ = ["protocol", "publications", "statements"]


def statements(found: Results) -> Markup:
    parts = []
    for label in found.methods:
        folds = [
            _statement(o) for e in found.epsilons for o in found.group(label, e) if o is not None
        ]
        n_verified = sum(o.verified for e in found.epsilons for o in found.done(label, e))
        title = (
            f"{label}: {n_verified} of {len(folds)} cells verified"
            if folds
            else f"{label}: no cell"
        )
        parts.append(element("details", element("summary", element("b", title)), *folds))
    return together(*parts)


def _statement(outcome: Outcome) -> Markup:
    privacy = outcome.privacy or {}
    name = f"epsilon {outcome.epsilon:g}, seed {outcome.seed}"
    if not outcome.done:
        return element("details", element("summary", f"{name}: failed, nothing is released"),
                       element("p", outcome.error or "no reason given"))  # fmt: skip
    verdict = "verified" if outcome.verified else "NOT VERIFIED"
    stated = f"epsilon {_plain(privacy.get('epsilon'))} at delta {_plain(privacy.get('delta'))}"
    return element(
        "details",
        element("summary", f"{name}: {stated}, ",
                element("b", verdict, class_=None if outcome.verified else "bad")),
        element("p", privacy.get("statement") or "It carries no privacy statement."),
        element("p", privacy["declared"]) if privacy.get("declared") else None,
        element("p", f"It uses the release of {outcome.shared}.") if outcome.shared else None,
    )  # fmt: skip


def publications(found: Results) -> Markup | None:
    drawn = {
        (row.method, row.metric)
        for metric in found.metrics
        for row in comparable(found.data, metric.name, found.epsilons)
    }
    rows = []
    for row in published(found.data):
        scale = 100 if row.metric.startswith("accuracy") else 1
        points = ", ".join(f"{scale * v:.4g} at epsilon {e:g}" for e, v in row.points)
        rows.append(
            element(
                "tr",
                element("th", row.method, " (claim)" if row.claim else None, scope="row"),
                element("td", row.metric.replace("_", " ")),
                element("td", points),
                element("td", "drawn" if (row.method, row.metric) in drawn else "listed only"),
                element("td", row.protocol),
                element("td", element("a", row.source, href=row.url)),
            )
        )
    if not rows:
        return None
    heads = ["Method", "Metric", "Values", "Chart", "Protocol", "Source"]
    return together(
        element(
            "p",
            "What others report on this data set. Only numbers by the same metric are drawn in a "
            "chart; the rest is listed, since another classifier or another reference makes "
            "another number. A claim is a number whose privacy guarantee is not verified.",
            class_="soft",
        ),
        box("Published numbers", "words", heads, [element("tbody", *rows)]),
    )


def protocol(found: Results) -> Markup:
    parts = [
        _fold(title, values, first)
        for title, values, first in (
            ("How it was measured", found.protocol, True),
            ("Data", found.data, True),
            ("Machine", found.machine, True),
        )
        if values
    ]
    parts += [_fold(f"Settings of {k}", method, False) for k, method in found.methods.items()]
    return together(*parts)


def _fold(title: str, values: Mapping[str, Any], shown: bool) -> Markup:
    return element(
        "details", element("summary", title), _tree(values), open=True if shown else None
    )


def _tree(value: object) -> Markup:
    """Writes tables within tables, and lists on one line."""
    if isinstance(value, Mapping):
        return element(
            "dl",
            *(
                together(element("dt", element("code", key)), element("dd", _tree(inner)))
                for key, inner in value.items()
            ),
        ) if value else escape("none")  # fmt: skip
    if isinstance(value, list | tuple):
        simple = not any(isinstance(inner, Mapping) for inner in value)
        return escape(", ".join(map(_plain, value))) if simple else together(*map(_tree, value))
    return escape(_plain(value))


def _plain(value: object) -> str:
    words = {None: "none", True: "yes", False: "no"}
    if value is None or isinstance(value, bool):
        return words[value]
    return str(value)
