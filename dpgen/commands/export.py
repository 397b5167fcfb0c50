"""`dpgen export`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from dpgen.commands.next_command import say_next
from dpgen.commands.options import OneOf, steps_of, steps_option, unverified_option


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
@steps_option
@click.option(
    "--network",
    help="Network to write.  [default: model to diffusers, student to onnx; a run of dp-sad also "
    "has a teacher]",
)  # fmt: skip
@unverified_option
def export(
    run: Path, target: str, out: Path, sampler: str | None, steps: int | None,
    network: str | None, allow_unverified: bool,
) -> None:  # fmt: skip
    """Write a network of a trained RUN as the parts of another library, with code that draws the
    same images as `dpgen sample`, or classifies. Costs no privacy.
    """
    from dpgen.exports.export import export as write

    write(
        run, out, target=target, network=network, sampler=sampler, steps=steps_of(sampler, steps),
        allow_unverified=allow_unverified,
    )  # fmt: skip
    click.echo(f"{out}: parts of {target}; {out / 'README.md'} has the code that uses them")
    if not allow_unverified:
        say_next("verify", run)
