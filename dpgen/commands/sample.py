"""`dpgen sample`."""

from __future__ import annotations

from pathlib import Path

import click

from dpgen.commands.options import quiet_option, set_options, unverified_option


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-n", "n_images", type=click.IntRange(1), required=True, help="How many images.")
@set_options
@click.option(
    "--preview", type=click.Path(path_type=Path), help="Write a picture of a few images, by class."
)
@click.option("--seed", type=int, help="Default: a fresh one. Recorded either way.")
@click.option(
    "--sampler", help="A name in samplers.SAMPLERS, as heun or hamiltonian; default: the method's."
)
@click.option(
    "--steps", type=click.IntRange(1), default=50, show_default=True, help="Of --sampler."
)
@click.option(
    "--guidance",
    type=float,
    default=0.0,
    show_default=True,
    help="Classifier-free guidance weight.",
)
@click.option(
    "--labeller-guidance",
    type=float,
    default=0.0,
    show_default=True,
    help="Weight of guidance by the private labeller, where the run has one.",
)
@click.option(
    "--network",
    default="model",
    show_default=True,
    help="Which of the released networks; dp-sad has a teacher, too.",
)
@click.option("--device", type=click.Choice(["auto", "cpu"]), default="auto", show_default=True)
@unverified_option
@quiet_option
def sample(
    run: Path, n_images: int, out: Path, layout: str, preview: Path | None, seed: int | None,
    sampler: str | None, steps: int, guidance: float, labeller_guidance: float, network: str,
    device: str, allow_unverified: bool, quiet: bool,
) -> None:  # fmt: skip
    """Make a synthetic data set from a trained RUN. Costs no privacy, any number of times."""
    from dpgen.synthetic.synthesise import synthesise

    statement = synthesise(
        run, n_images, out, layout=layout, preview=preview, seed=seed, sampler=sampler, steps=steps,
        guidance=guidance, labeller_guidance=labeller_guidance, network=network, device=device,
        show=not quiet, allow_unverified=allow_unverified,
    )  # fmt: skip
    click.echo(f"{n_images} images in {out}")
    if "statement" in statement:
        click.echo(statement["statement"])
    else:
        from dpgen.privacy.statements.notice import sentences

        click.echo("\n".join(sentences(statement)))
