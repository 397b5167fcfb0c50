"""`dpgen sample`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dpgen.commands.labels import UNIFORM
from dpgen.commands.new_file import NewFile
from dpgen.commands.next_command import say_evaluate
from dpgen.commands.options import (
    OneOf,
    quiet_option,
    set_options,
    steps_of,
    steps_option,
    unverified_option,
)

if TYPE_CHECKING:
    from dpgen.generator.sampler_settings import SamplerSettings


def _samplers() -> Iterable[str]:
    from samplers import SAMPLERS

    return SAMPLERS


class _Sample(click.Command):
    """Lists the samplers and their options below the help, from their table."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from samplers import SAMPLERS

        rows = [(name, ", ".join((*own, "rho"))) for name, (_, own) in SAMPLERS.items()]
        with formatter.section("Options of each --sampler for --set, besides sigma_min, sigma_max"):
            formatter.write_dl(rows)


def _chosen(
    sampler: str | None, steps: int | None, assignments: tuple[str, ...]
) -> SamplerSettings | None:  # fmt: skip
    """Returns the settings of the sampler that was named; ``None``: the method's own draws."""
    from dpgen.generator.sampler_settings import ENDS, SamplerSettings
    from dpgen.settings import assign, parse_assignment

    n_steps = steps_of(sampler, steps)
    options: dict[str, Any] = {}
    for text in assignments:
        assign(options, *parse_assignment(text))
    if sampler is None:
        if options:
            raise ValueError(
                f"--set {next(iter(options))} is an option of a sampler: name one by --sampler"
            )
        return None
    if "n_steps" in options:
        raise ValueError(f"n_steps is set with --steps, got --set n_steps={options['n_steps']}")
    ends = {name: options.pop(name) for name in ENDS if name in options}
    return SamplerSettings(sampler, n_steps=n_steps, options=options, **ENDS | ends)


@click.command(cls=_Sample)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "-n", "n_images", type=click.IntRange(1),
    help="How many images; needed unless --labels counts them.",
)  # fmt: skip
@click.option(
    "--labels", metavar="COUNTS", default=UNIFORM, show_default=True,
    help="How many images of each class: `uniform`, equally many; `released`, in the proportions "
    "that the run measured with noise, where it did; or counts, as ill=100,well=50 or in a .csv or "
    ".toml file, where a class that is not named gets none. Do not count the private records for "
    "this: the set would publish the counts.",
)  # fmt: skip
@click.option(
    "--fair", metavar="FILE", type=click.Path(path_type=Path),
    help="Draws target and group independently of each other. FILE, .toml or .json, gives both for "
    'each class in a table `classes`, as ill_f = ["ill", "f"]; all targets and all groups are '
    "equally frequent unless tables `targets` and `groups` hold weights, as ill = 30. With "
    "--labels released their frequencies are those that the run measured.",
)  # fmt: skip
@set_options
@click.option(
    "--preview", type=NewFile(".png"), help="Write a picture of a few images, by class."
)
@click.option(
    "--seed", type=int, help="Seed of the images. Default: a fresh one. Recorded either way."
)
@click.option(
    "--sampler", type=OneOf(_samplers), help="Sampler to draw with.  [default: the method's own]"
)
@steps_option
@click.option(
    "--set", "assignments", multiple=True, metavar="NAME=VALUE",
    help="An option of --sampler, as in step_size=0.3. Repeat for more.",
)  # fmt: skip
@click.option(
    "--guidance",
    type=float,
    default=0.0,
    show_default=True,
    help="Weight of classifier-free guidance: 0 for none; with more, images are more typical of "
    "their class and less varied.",
)
@click.option(
    "--labeller-guidance",
    type=float,
    default=0.0,
    show_default=True,
    help="Weight of guidance by the labeller, a classifier that the run has where it was trained "
    "with sketch.labeller_share above 0.",
)
@click.option(
    "--network",
    default="model",
    show_default=True,
    help="Network to draw with: model, or in a run of dp-sad also teacher.",
)
@click.option(
    "--jobs", type=click.IntRange(1), default=1, show_default=True, metavar="N",
    help="Draw in N processes of this machine, which share its threads, and its GPUs in turn.",
)  # fmt: skip
@click.option(
    "--shard", metavar="I/N",
    help="Draw part I of N alone, as on one of N machines; `dpgen join` makes the set of all "
    "parts. Give every part the same options and --seed.",
)  # fmt: skip
@click.option("--device", type=click.Choice(["auto", "cpu"]), default="auto", show_default=True,
              help="auto takes a GPU where there is one.")
@click.option("--precision", type=click.Choice(["no", "bf16"]), default="no", show_default=True,
              help="Numbers in which the network of a sampler computes: `no` is float32; "
              "`bf16` is faster on processors that have it, and the images differ slightly.")
@unverified_option
@quiet_option
def sample(
    run: Path, n_images: int | None, labels: str, fair: Path | None, out: Path, layout: str,
    preview: Path | None, seed: int | None, sampler: str | None, steps: int | None,
    assignments: tuple[str, ...], guidance: float, labeller_guidance: float, network: str,
    jobs: int, shard: str | None, device: str, precision: str, allow_unverified: bool,
    quiet: bool,
) -> None:  # fmt: skip
    """Make a synthetic data set from a trained RUN. Costs no privacy, any number of times."""
    from dpgen.commands.labels import parse_labels
    from dpgen.generator.draw import Draw
    from dpgen.images.fair_classes import read_fair
    from dpgen.synthetic.part import Share
    from dpgen.synthetic.synthesise import synthesise

    share = None if shard is None else Share.parsed(shard)
    counts = parse_labels(labels)
    if n_images is None and not isinstance(counts, Mapping):
        raise ValueError("'-n' is missing: how many images? (--labels may count them instead)")
    chosen = _chosen(sampler, steps, assignments)
    statement = synthesise(
        run, n_images, out, Draw(chosen, guidance, labeller_guidance, network, device, precision),
        labels=counts, fair=None if fair is None else read_fair(fair), layout=layout,
        preview=preview, seed=seed, show=not quiet,
        allow_unverified=allow_unverified, jobs=jobs, share=share,
    )  # fmt: skip
    n_drawn = sum(counts.values()) if isinstance(counts, Mapping) else n_images
    if share is not None:
        click.echo(f"part {share.index} of {share.of} of {n_drawn} images in {out}")
        click.echo(f"when all parts are drawn: dpgen join PART_1 ... PART_{share.of} --out SET")
        return
    click.echo(f"{n_drawn} images in {out}")
    say_labels(statement["synthetic_dataset"]["labels"])
    say_fair(statement["synthetic_dataset"])
    if (repeats := statement["synthetic_dataset"].get("repeats", "none")) != "none":
        click.echo(f"Images repeat: {repeats}.")
    say_privacy(statement, out)


def say_labels(told: str) -> None:
    """Prints the counts of classes that were drawn in released proportions."""
    whose, _, counts = told.partition(": ")
    if whose == "released":
        click.echo(f"Classes as the run measured them, with noise: {counts}")
        click.echo("(--labels uniform draws equally many of each)")


def say_fair(drawn: Mapping[str, Any]) -> None:
    """Prints how far target and group are independent in a set that was drawn so."""
    if "fair" not in drawn:
        return
    gap = drawn["fair"]["parity_gap"]
    rounded = f" but for {gap:.3g}, as images are whole" if gap else ""
    click.echo(f"Fair labels: every group has the same shares of targets{rounded}.")


def say_privacy(statement: Mapping[str, Any], out: Path) -> None:
    """Prints what the statement or the notice of a set says, and the next command."""
    if "statement" in statement:
        from dpgen.privacy.statements.public_start import start_of

        click.echo("\n".join(filter(None, (statement["statement"], start_of(statement)))))
    else:
        from dpgen.privacy.statements.notice import sentences

        click.echo("\n".join(sentences(statement)))
    say_evaluate(out, statement)
