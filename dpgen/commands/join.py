"""`dpgen join`."""

from __future__ import annotations

from pathlib import Path

import click

from dpgen.commands.options import quiet_option
from dpgen.commands.sample import say_fair, say_privacy


@click.command()
@click.argument("parts", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder to make; absent or empty."
)
@quiet_option
def join(parts: tuple[Path, ...], out: Path, quiet: bool) -> None:
    """Make one synthetic set of all its PARTS, which `dpgen sample --shard` drew.

    The set is the one that `dpgen sample` makes without --shard, and costs no privacy either. A
    part that is missing, there twice, of another set or changed is refused: draw it again with
    --shard I/N, the same --seed and the same options.
    """
    from dpgen.synthetic.join import join as write

    statement = write(parts, out, show=not quiet)
    click.echo(f"{statement['synthetic_dataset']['samples']} images in {out}")
    say_fair(statement["synthetic_dataset"])
    say_privacy(statement, out)
