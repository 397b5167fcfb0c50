"""`dpgen benchmark`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from dpgen.commands.next_command import carried, say_next
from dpgen.commands.options import OVERLAP, quiet_option


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder to make, or to go on in."
)
@click.option(
    "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Cells at a time."
)
@click.option("--epsilons", type=float, multiple=True, help="Instead of the file's. Repeat.")
@click.option("--seeds", type=click.IntRange(1), help="Instead of the file's.")
@click.option(
    "--inception-weights", metavar="FILE", help="Where torch hub has no copy and no network."
)
@click.option(
    "--overlap",
    type=click.Choice(OVERLAP),
    help="What to do when other ledgers hold some of these images, as for `dpgen train`. Instead "
    "of the file's; default: refuse.",
)
@quiet_option
def benchmark(
    file: Path, out: Path, jobs: int, epsilons: tuple[float, ...], seeds: int | None,
    inception_weights: str | None, overlap: str | None, quiet: bool,
) -> None:  # fmt: skip
    """Compare methods across epsilon: FILE says which, on what data and how they are judged.

    Writes results.json, results.md and report.html, a page with curves, pictures and every
    cell's privacy statement. Run it again to go on: a finished cell is never run twice. Run it on
    several machines that share the folder and DPGEN_HOME, and each takes cells that nobody has
    taken. On private data every cell is charged to the data set's ledger.
    """
    from dpgen.benchmark.compare import compare
    from dpgen.benchmark.schedule import BenchmarkSettings

    settings = BenchmarkSettings.load(file)
    changes: dict[str, Any] = {
        "epsilons": epsilons or None, "seeds": seeds, "inception_weights": inception_weights,
        "overlap": overlap,
    }  # fmt: skip
    settings = dataclasses.replace(settings, **{k: v for k, v in changes.items() if v is not None})
    results = compare(settings, out, jobs=jobs, show=not quiet)
    click.echo((out / "results.md").read_text())
    click.echo(f"report {out / 'report.html'}")
    failed = [cell for cell in results["cells"] if cell["status"] == "failed"]
    for cell in failed:
        where = f"{cell['label']}, epsilon {cell['epsilon']:g}, seed {cell['seed']}"
        click.echo(f"failed: {where}: {cell['error']}", err=True)
    if failed:
        say_next("benchmark", file, *carried(benchmark))
        raise SystemExit(1)
    runs = (out / "cells" / cell.name / "run" for cell in settings.cells())
    trained = [run for run in runs if run.is_dir()]
    if trained:
        say_next("verify", trained[0])
