"""The report of a benchmark: one HTML page that needs no network, and a table in Markdown."""

from dpgen.report.markdown import markdown
from dpgen.report.page import render

__all__ = ["markdown", "render"]
