"""`dpgen transcribe`."""

from __future__ import annotations

from pathlib import Path

import click

from dpgen.commands.next_command import say_sample
from dpgen.commands.options import quiet_option, unverified_option


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path),
    help="Run folder to make, or to resume.",
)  # fmt: skip
@click.option(
    "--set", "assignments", multiple=True, metavar="NAME=VALUE",
    help="A setting of refinement.* or student.*, as in student.width=64; `dpgen settings dpdfd` "
    "lists them. Repeat for more.",
)  # fmt: skip
@click.option("--seed", type=int, help="Seed of the transcription. Default: a fresh one. Recorded "
              "either way.")  # fmt: skip
@click.option("--device", type=click.Choice(["auto", "cpu"]), default="auto", show_default=True,
              help="auto takes a GPU where there is one.")
@click.option("--facts", metavar="FILE", type=click.Path(path_type=Path),
              help="TOML file of public facts of the records of a classifier that comes alone: "
              "shape, class_names, n_records.")
@unverified_option
@quiet_option
def transcribe(
    run: Path, out: Path, assignments: tuple[str, ...], seed: int | None, device: str,
    facts: Path | None, allow_unverified: bool, quiet: bool,
) -> None:  # fmt: skip
    """Make another generator and another student of a certified RUN, without its records. Costs no
    privacy, any number of times; the new run names RUN and has its guarantee.

    RUN must have released a generator that draws images itself and a classifier: dpdfd, dfkd, dpsd,
    dgd, pge with mode=sketch and sketch.classifier.share, or a transcription. Run it again to
    resume.

    With --allow-unverified RUN may also be the file of a classifier that comes alone: nothing can
    be guaranteed about it afterwards, and what is made of it carries a notice.
    """
    from dataclasses import asdict
    from typing import Any

    from dpgen.images.facts import PublicFacts
    from dpgen.methods.transcription import Transcription
    from dpgen.runs.context import Hardware
    from dpgen.settings import assign, from_dict, parse_assignment
    from dpgen.transcription.transcribing import transcribe as make

    kind = Transcription.Settings
    values: dict[str, Any] = asdict(kind.alone()) if run.is_file() else {}
    for text in assignments:
        assign(values, *parse_assignment(text))
    found = make(
        run, out, settings=from_dict(kind, values), seed=seed,
        hardware=Hardware(device=device), show=not quiet, allow_unverified=allow_unverified,
        facts=None if facts is None else PublicFacts.load(facts),
    )  # fmt: skip
    document = found.document
    click.echo("\n".join(document.sentences))
    click.echo(
        f"model {out / 'model.safetensors'}, student {out / 'student.safetensors'}, picture "
        f"{out / 'preview.png'}, {document.kind} {out / document.name}"
    )
    say_sample(out, unverified=not found.certified)
