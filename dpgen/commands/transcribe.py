"""`dpgen transcribe`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dpgen.commands.next_command import say_sample
from dpgen.commands.options import account_options, options, quiet_option, unverified_option

teachers_options = options(
    click.option(
        "--teachers", metavar="FOLDER", type=click.Path(path_type=Path),
        help="Learn from the noised votes of the classifiers in FOLDER, one for each silo: "
        "NAME.safetensors, or NAME/ with one such file, as a run or dpgen.save_classifier writes "
        "it.",
    ),
    click.option(
        "--images", metavar="SET or RUN", type=click.Path(path_type=Path),
        help="What the teachers are asked about: a synthetic set with a certificate, or a run with "
        "one, from which images are drawn.",
    ),
    click.option(
        "--public", metavar="DATA",
        help="In place of --images: images that you declare public, labelled or not (labels are "
        "not read). They are named in the certificate, and none may be a silo's record.",
    ),
    click.option(
        "--public-value-range", metavar="LOW,HIGH",
        help="Black and white of public images of floats or of grey deeper than 8 bits.",
    ),
    click.option(
        "--epsilon", type=float,
        help="Privacy budget of each teacher with all records behind it; needed with --teachers.",
    ),
    click.option(
        "--delta", type=float,
        help="Probability that the bound by epsilon may exceed. Default: min(1e-5, 1 / (10 "
        "teachers)).",
    ),
    click.option(
        "--classes", metavar="NAME,NAME",
        help="Names of the classes, in the order of the teachers' scores, where their files do not "
        "state them.",
    ),
    click.option(
        "--plan", is_flag=True,
        help="With --teachers: show the price and how many images the teachers can answer, and "
        "charge nothing.",
    ),
    account_options,
)  # fmt: skip


@click.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path),
    help="Run folder to make, or to resume.",
)  # fmt: skip
@click.option(
    "--set", "assignments", multiple=True, metavar="NAME=VALUE",
    help="A setting of refinement.* or student.*, as in student.width=64; `dpgen settings dpdfd` "
    "lists them, and `dpgen settings teachers` those with --teachers. Repeat for more.",
)  # fmt: skip
@click.option("--seed", type=int, help="Seed of the transcription. Default: a fresh one. Recorded "
              "either way.")  # fmt: skip
@click.option("--device", type=click.Choice(["auto", "cpu"]), default="auto", show_default=True,
              help="auto takes a GPU where there is one.")
@click.option("--facts", metavar="FILE", type=click.Path(path_type=Path),
              help="TOML file of public facts of the records of a classifier that comes alone: "
              "shape, class_names, n_records.")
@teachers_options
@unverified_option
@quiet_option
def transcribe(
    run: Path | None, out: Path | None, assignments: tuple[str, ...], seed: int | None, device: str,
    facts: Path | None, teachers: Path | None, allow_unverified: bool, quiet: bool,
    **given: Any,  # noqa: ANN401
) -> None:  # fmt: skip
    """Make another generator and another student of a certified RUN, without its records. Costs no
    privacy, any number of times; the new run names RUN and has its guarantee.

    RUN must have released a generator that draws images itself and a classifier: dpdfd, dfkd, dpsd,
    dgd, pge with mode=sketch and sketch.classifier.share, or a transcription. Run it again to
    resume.

    With --allow-unverified RUN may also be the file of a classifier that comes alone: nothing can
    be guaranteed about it afterwards, and what is made of it carries a notice.

    With --teachers, in place of RUN, silos hand over classifiers that they have trained, and one
    private student learns the noised votes of all on images that hold no silo's record. The unit of
    privacy is one teacher with all records behind it. You declare that no record is behind two of
    them, and that they were trained independently; the teachers are charged before the first is
    asked. It takes tens of silos: --plan says how many.

    \b
        dpgen transcribe --teachers hospitals/ --images set/ --epsilon 10 --plan
        dpgen transcribe --teachers hospitals/ --images set/ --epsilon 10 --out run
        dpgen evaluate run --reference held-out/
    """
    from dataclasses import asdict

    if teachers is not None:
        from dpgen.commands.teaching import teach

        typed = {"RUN": run, "--facts": facts, "--allow-unverified": allow_unverified or None}
        wrong = [name for name, value in typed.items() if value is not None]
        if wrong:
            raise ValueError(f"{wrong[0]} and --teachers cannot be combined: drop one of them")
        teach(teachers, out, assignments, seed, device, quiet=quiet, **given)
        return
    from dpgen.commands.teaching import refuse_without_teachers

    refuse_without_teachers(given)
    if run is None or out is None:
        lacking = "RUN" if run is None else "'--out'"
        raise click.UsageError(f"{lacking} is missing: dpgen transcribe RUN --out RUN2")
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
