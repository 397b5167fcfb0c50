"""`dpgen mix`."""

from __future__ import annotations

from pathlib import Path

import click

from dpgen.commands.next_command import say_evaluate
from dpgen.commands.options import quiet_option, set_options
from dpgen.commands.sample import say_fair


@click.command()
@click.argument("sets", nargs=-1, required=True, type=click.Path(path_type=Path))
@set_options
@click.option(
    "--disjoint",
    is_flag=True,
    help="Declares that no record, or no person, is in the data of two of the ledgers behind the "
    "sets: the mixture then costs what the costliest does. Nothing checks it.",
)
@quiet_option
def mix(sets: tuple[Path, ...], out: Path, layout: str, disjoint: bool, quiet: bool) -> None:
    """Make one synthetic set of several SETS, with the privacy of all of them together.

    Sets of one run cost what it cost; runs add up, whether they learned from one data set or not.
    """
    from dpgen.synthetic.mix import mix as write

    statement = write(sets, out, layout=layout, disjoint=disjoint, show=not quiet)
    click.echo(f"{statement['synthetic_dataset']['samples']} images in {out}")
    say_fair(statement["synthetic_dataset"])
    click.echo(f"{statement['mixture']['rule']} of {len(sets)} sets")
    click.echo(statement["statement"])
    say_evaluate(out, statement)
