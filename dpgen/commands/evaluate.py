"""`dpgen evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from dpgen.commands.options import quiet_option


@click.command()
@click.argument("sets", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--reference", required=True, metavar="DATA", help="Real images to test on: `digits` or a path."
)
@click.option(
    "--split",
    type=click.Choice(["train", "test", "all"]),
    default="test",
    show_default=True,
    help="Which of the reference.",
)
@click.option("--size", type=int, metavar="PIXELS")
@click.option("--channels", type=click.Choice(["1", "3"]))
@click.option("--network", type=click.Choice(["cnn", "mlp"]), default="cnn", show_default=True)
@click.option(
    "--seeds", type=click.IntRange(1), default=1, show_default=True, help="Classifiers per set."
)
@click.option(
    "--preview",
    type=click.Path(path_type=Path),
    help="Write a picture: a strip per set, the reference first.",
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the scores to a file."
)
@quiet_option
def evaluate(sets: tuple[Path, ...], reference: str, json_file: Path | None, **given: Any) -> None:  # noqa: ANN401
    """Accuracy on real images of a classifier that was trained on synthetic ones only.

    Reading a private reference is not covered by any epsilon: keep such scores in the house.
    """
    from dpgen.reports import evaluation_report

    for option, file in (("--json", json_file), ("--preview", given["preview"])):
        if file is not None and not file.absolute().parent.is_dir():
            raise ValueError(f"{option} {file}: there is no folder {file.absolute().parent}")
    report = evaluation_report(sets, reference, **given)
    if json_file is not None:
        from dpgen.privacy.chain import replace_durably

        replace_durably(json_file, json.dumps(report.to_dict(), indent=1).encode())
    click.echo(report.text())
