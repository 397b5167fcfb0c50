"""`dpgen methods` lists the methods and `dpgen ledger` the data sets charged so far."""

from __future__ import annotations

import json
from pathlib import Path

import click

from dpgen.commands.options import json_option
from dpgen.methods import METHODS


@click.command()
@json_option
def methods(as_json: bool) -> None:
    """List the methods, their modes and what each guarantees."""
    if as_json:
        click.echo(json.dumps({name: m._asdict() for name, m in METHODS.items()}, indent=1))
        return
    for name, method in METHODS.items():
        click.echo(f"{name:8}{method.summary}")
        for mode, guarantee in method.modes.items():
            click.echo(f"        {mode}: {guarantee}")


@click.command()
@click.option(
    "--ledger",
    "path",
    type=click.Path(path_type=Path),
    help="One ledger file; default: all of them.",
)
@click.option(
    "--raise", "raised", type=float, metavar="EPSILON", help="Raise the limit, on record."
)
def ledger(path: Path | None, raised: float | None) -> None:
    """List the data sets known here: epsilon spent and left, where they lie, and their runs with
    date, epsilon and folder.
    """
    from dpgen.commands.ledger_report import ledger_table

    click.echo(ledger_table(path, raised))
