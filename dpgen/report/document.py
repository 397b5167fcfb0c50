"""A self-contained HTML document: one style, no script, no network."""

from __future__ import annotations

from importlib.resources import files
from string import Template

from dpgen.report.markup import Markup, escape


def document(title: str, body: Markup) -> str:
    folder = files("dpgen.report")
    page = Template((folder / "page.html").read_text(encoding="utf-8"))
    style = (folder / "page.css").read_text(encoding="utf-8")
    return page.substitute(title=escape(title), style=style, body=body)
