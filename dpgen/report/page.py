"""The page of a benchmark: its chapters in one file that needs no network."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpgen.report import details, tables, wording
from dpgen.report.costs import costs
from dpgen.report.curves import curves
from dpgen.report.document import document
from dpgen.report.gallery import Reader, gallery
from dpgen.report.glance import glance
from dpgen.report.markup import Markup, element, together
from dpgen.report.results import Results

__all__ = ["render"]

CHAPTERS = (
    ("curves", "Curves"),
    ("table", "All metrics"),
    ("pictures", "Pictures"),
    ("cells", "Cells"),
    ("costs", "Time and memory"),
    ("privacy", "Privacy statements"),
    ("published", "Published numbers"),
    ("protocol", "Protocol and settings"),
)


def render(results: Mapping[str, Any], pictures: Reader | Path | None = None) -> str:
    """Renders one self-contained page: opens from disk, loads nothing, runs no script.

    Guarantees: no text of the results becomes markup; cells that failed, are missing, have no
    certificate or a metric that is no number are named on the page.

    Args:
        results: a dictionary of schema ``dpgen-benchmark/1``; `Results.read` refuses others.
        pictures: the folder that holds the cells' grids, or what reads one by its name.
    """
    found = Results.read(results)
    bodies = {
        "curves": curves(found),
        "table": together(
            element("p", "Mean over seeds ± standard error. Bold: the best mean at an epsilon, and "
                    "those whose standard errors reach its own.", class_="soft"),
            tables.table(found),
        ),
        "pictures": together(
            element("p", "Samples of the first finished seed, drawn for the same labels; choose "
                    "one to enlarge it.", class_="soft"),
            gallery(found, pictures),
        ),
        "cells": together(
            element("p", "● done, ✕ failed, ○ not there yet; one mark per seed.", class_="soft"),
            tables.progress(found),
            *_failures(found),
        ),
        "costs": together(
            element("p", "A cell's mean wall time, over all epsilons and seeds; the largest memory "
                    "that one of its processes held.", class_="soft"),
            costs(found),
        ),
        "privacy": details.statements(found),
        "published": details.publications(found),
        "protocol": details.protocol(found),
    }  # fmt: skip
    chapters = [(name, title) for name, title in CHAPTERS if bodies[name]]
    links = (element("li", element("a", title, href=f"#{name}")) for name, title in chapters)
    (guarantee, *derivation), limits = wording.guarantee(found), wording.limits(found)
    body = together(
        element(
            "header",
            element("h1", found.title),
            element("p", wording.facts(found), class_="facts"),
        ),
        _alarm(found),
        element("p", guarantee, class_="lead"),
        element("p", " ".join(derivation), class_="small soft"),
        glance(found, pictures),
        element("p", " ".join(limits), class_="small soft after"),
        element("nav", element("ul", *links), aria_label="Chapters"),
        *(
            element("section", element("h2", title, id=name), bodies[name])
            for name, title in chapters
        ),
        _footer(results),
    )
    return document(found.title, body)


def _alarm(found: Results) -> Markup | None:
    failed, missing, broken = wording.failed(found), found.missing, wording.broken(found)
    if not (failed or missing or broken):
        return None
    n_done = len(found.outcomes) - len(failed)
    words = [f"{n_done} of {len(found.outcomes) + len(missing)} cells are done"]
    words += [f"{len(failed)} failed"] if failed else []
    words += [f"{len(missing)} are not there yet"] if missing else []
    words += [f"{len(broken)} gave a metric that is no number"] if broken else []
    return element("p", ", ".join(words) + ". ", element("a", "Which ones", href="#cells"),
                   class_="alarm", role="status")  # fmt: skip


def _failures(found: Results) -> list[Markup]:
    parts = [
        element(
            "details",
            element(
                "summary",
                element("b", f"{wording.name(o)} failed", class_="bad"),
                f": {(o.error or 'no reason given').strip().splitlines()[0][:200]}",
            ),
            element("pre", o.error or "no reason given"),
        )
        for o in wording.failed(found)
    ]
    return [*parts, *(element("p", line, class_="bad") for line in wording.broken(found))]


def _footer(results: Mapping[str, Any]) -> Markup:
    encoded = base64.b64encode(json.dumps(results).encode()).decode()
    link = element("a", "Download the numbers of this page (JSON)", download="results.json",
                   href=f"data:application/json;base64,{encoded}")  # fmt: skip
    return element("footer", element("p", link), element("p", "Made by dpgen benchmark."))
