"""`dpgen card`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dpgen.commands.next_command import say_next


class _Card(click.Command):
    """Lists the keys of a release file below the help, from their table."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from dpgen.release.release_file import ReleaseFile
        from dpgen.settings import form_of, leaves

        rows = [(one.name, f"{form_of(one.hint)}; {one.meaning}") for one in leaves(ReleaseFile)]
        with formatter.section('Keys of release.toml, as in: name = "Knees". Each may be left out'):
            formatter.write_dl(rows)


@click.command(cls=_Card)
@click.argument("folder", metavar="SET", type=click.Path(path_type=Path))
@click.option(
    "--release", metavar="FILE", type=click.Path(path_type=Path),
    help="TOML file of what no certificate knows, such as the set's name, purpose and licence; its "
    "keys are listed below. It is kept in the set as release.toml. Default: the one that is there.",
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
