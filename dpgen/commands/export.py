"""`dpgen export`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from dpgen.commands.next_command import say_next
from dpgen.commands.options import OneOf, unverified_option


def _targets() -> Iterable[str]:
    from dpgen.exports.table import EXPORTS

    return EXPORTS


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--to", "target", required=True, type=OneOf(_targets), help="Which library.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path),
    help="Folder to make; absent or empty.",
)  # fmt: skip
@click.option(
    "--sampler", type=click.Choice(["ddim", "heun"]),
    help="Sampler to draw with, as for dpgen sample.  [default: the method's own]",
)  # fmt: skip
@click.option(
    "--steps", type=click.IntRange(1), default=50, show_default=True,
    help="Number of steps of --sampler.",
)  # fmt: skip
@click.option(
    "--network", default="model", show_default=True,
    help="Which of the released networks; dp-sad has a teacher, too.",
)  # fmt: skip
@unverified_option
def export(
    run: Path, target: str, out: Path, sampler: str | None, steps: int, network: str,
    allow_unverified: bool,
) -> None:  # fmt: skip
    """Write the model of a trained RUN as the parts of another library, with code that draws the
    same images as `dpgen sample`. Costs no privacy.
    """
    from dpgen.exports.export import export as write

    write(
        run, out, target=target, network=network, sampler=sampler, steps=steps,
        allow_unverified=allow_unverified,
    )  # fmt: skip
    click.echo(f"{out}: parts of {target}; {out / 'README.md'} has the code that draws from them")
    if not allow_unverified:
        say_next("verify", run)
