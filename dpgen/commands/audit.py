"""`dpgen audit`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from dpgen.commands.inputs import hardware
from dpgen.commands.new_file import NewFile
from dpgen.commands.next_command import beside, carried, say_next, say_sign
from dpgen.commands.options import hardware_options, quiet_option, unverified_option


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=NewFile(folder=True),
    help="Folder for audit.json and audit.html, a page with the curves.",
)
@click.option("--quick", is_flag=True, help="Only the deterministic tests, about a minute.")
@click.option(
    "--label-canaries", type=int, default=0, metavar="M",
    help="Train once more, with M canaries that have a class of their own each, and look for them "
    "in what is released. Takes as long as the run did.",
)  # fmt: skip
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Of stand-in records; never of noise."
)
@unverified_option
@hardware_options
@quiet_option
def audit(
    run: Path, out: Path | None, quick: bool, label_canaries: int, seed: int,
    allow_unverified: bool, quiet: bool,
    **given: Any,  # noqa: ANN401
) -> None:  # fmt: skip
    """Try to break the claim of a finished RUN, and say what would have been seen.

    Needs the run's configuration and no record: stand-in records are trained on, at no cost. Ends
    with status 1 when a violation was found. What rounding does to gradients is measured on
    --device, with --precision and --micro-batch: give those that the run was trained with.

    A transcription is audited by what it keeps of the run that was trained: the plan of that run,
    whose events its epsilon is of. Runs that it was made of are compared where they lie beside it.

    With --allow-unverified a RUN that carries a notice is audited, too: what its paper claims,
    against what is certified.
    """
    from dpgen.auditing.audit import audit as examine
    from dpgen.auditing.page import render
    from dpgen.auditing.unverified import audit_claim
    from dpgen.methods.loading import load_trained
    from dpgen.methods.planned import require_planned
    from dpgen.storage.durable import replace_durably

    if not run.is_dir():
        raise FileNotFoundError(f"{run} must be the folder of a finished run")
    if quick and label_canaries:
        raise ValueError(
            "--quick skips the games and cannot be combined with --label-canaries: "
            "drop one of them"
        )
    generator = load_trained(run, allow_unverified=allow_unverified)
    common: dict[str, Any] = {
        "games": not quick, "seed": seed, "hardware": hardware(given), "show": not quiet,
    }  # fmt: skip
    if generator.certified:
        require_planned(run)
        found = examine(generator, n_label_canaries=label_canaries, **common)
    elif label_canaries:
        raise ValueError("--label-canaries is for runs with a certificate: drop it")
    else:
        found = audit_claim(generator, **common)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(found.to_dict(), indent=1, allow_nan=False)
        replace_durably(out / "audit.json", text.encode())
        replace_durably(out / "audit.html", render(found).encode())
    click.echo(found.text())
    if out is not None:
        click.echo(f"\npage {out / 'audit.html'}")
    if found.passed and quick:
        words = [word for word in carried(audit) if word != "--quick"]
        words += [] if out is not None else ["--out", str(beside(run, "audit"))]
        say_next("audit", run, *words)
    elif found.passed:
        say_sign(run)
    sys.exit(0 if found.passed else 1)
