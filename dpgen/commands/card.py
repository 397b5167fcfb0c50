"""`dpgen card`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dpgen.commands.next_command import say_next


@click.command()
@click.argument("folder", metavar="SET", type=click.Path(path_type=Path))
@click.option(
    "--release", metavar="FILE", type=click.Path(path_type=Path),
    help="TOML file of what no certificate knows: name, description, curators, intended_use, "
    "region, publication_date, sector, actors, justification, retention, license. It is kept in "
    "the set as release.toml. Default: the one that is there.",
)  # fmt: skip
def card(folder: Path, release: Path | None) -> None:
    """Write the pages of a synthetic set: README.md (dataset card), RELEASE.md (one page to sign),
    release.yaml (deployments registry) and croissant.json.

    All are made of the certificate, and `dpgen verify` compares them with it. No image is touched.
    """
    from dpgen.privacy.statements.certificate import CertificateError
    from dpgen.release.cards import write_cards

    try:
        names = write_cards(folder, release)
    except CertificateError as error:
        click.echo(f"FAILED: {error}", err=True)
        sys.exit(1)
    click.echo(f"{', '.join(names)} in {folder}")
    if (folder / "privacy.json").is_file():
        say_next("verify", folder)
