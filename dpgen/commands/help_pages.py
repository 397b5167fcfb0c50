"""Help pages whose lines are never broken within a name, as `--max-records-per-unit`."""

from __future__ import annotations

from collections.abc import Iterable

import click

UNBROKEN = "\u2011"  # the hyphen at which no line is broken, until the page is whole


class _Formatter(click.HelpFormatter):
    """Breaks lines at spaces only; click itself also breaks them at hyphens."""

    def write_text(self, text: str) -> None:
        super().write_text(text.replace("-", UNBROKEN))

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        whole = [(first, second.replace("-", UNBROKEN)) for first, second in rows]
        super().write_dl(whole, col_max, col_spacing)

    def getvalue(self) -> str:
        return super().getvalue().replace(UNBROKEN, "-")


class HelpContext(click.Context):
    """A command's context, whose help page breaks lines at spaces only."""

    formatter_class = _Formatter
