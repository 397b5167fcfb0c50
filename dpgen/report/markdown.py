"""The table of a benchmark in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dpgen.report import wording
from dpgen.report.costs import spent
from dpgen.report.results import Results
from dpgen.report.tables import certified, heading, numbers, real, seeds

__all__ = ["markdown"]

SIGNS = frozenset("\\`*_[]<>|#&")  # what Markdown would read as its own


def markdown(results: Mapping[str, Any]) -> str:
    """Writes the table of all metrics, and what is not in it, as Markdown.

    Args:
        results: as for `render`.
    """
    found = Results.read(results)
    heads = ["epsilon", "method", *(heading(m) for m in found.metrics)]
    heads += ["seeds", "certified epsilon", "time per cell"]
    rows = [
        [
            f"{epsilon:g}",
            label,
            *(numbers(m, found, label, epsilon) for m in found.metrics),
            seeds(found, label, epsilon),
            certified(found.done(label, epsilon)),
            spent(found, label, epsilon),
        ]
        for epsilon in found.epsilons
        for label in found.methods
    ]
    for name in found.references:
        values = [real(found, metric, name) for metric in found.metrics]
        rows.append(["–", f"{name} images", *values, "–", "–", "–"])
    lines = [f"# {_cell(found.title)}", "", _cell(wording.facts(found)), ""]
    lines += [_row(heads), "|" + "---|" * len(heads), *map(_row, rows)]
    lines += ["", "Mean over seeds ± standard error.", ""]
    lines += [*map(_cell, [*wording.guarantee(found), *wording.limits(found)]), ""]
    lines += [f"* {_cell(f'{wording.name(o)} failed: {o.error}')}" for o in wording.failed(found)]
    lines += [f"* {_cell(line)}" for line in wording.broken(found)]
    return "\n".join(lines).rstrip() + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    """Escapes text to one line without Markdown and HTML."""
    one = " ".join(text.split())
    return "".join(f"\\{sign}" if sign in SIGNS else sign for sign in one)
