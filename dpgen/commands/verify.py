"""`dpgen verify`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from dpgen.commands.options import json_option


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
def verify(folder: Path, as_json: bool) -> None:
    """Recompute epsilon from the events of a run or a synthetic set, and check every hash."""
    from dpgen.privacy.certificate import CertificateError, read_statement
    from dpgen.privacy.verification import verify as check

    if not folder.exists():
        raise FileNotFoundError(f"{folder} does not exist")
    try:
        checks = check(folder)
        statement = read_statement(folder)["statement"]
    except CertificateError as error:
        click.echo(f"FAILED: {error}", err=True)
        for line in _noticed(folder):
            click.echo(line, err=True)
        sys.exit(1)
    passed = all(c.passed for c in checks)
    if as_json:
        click.echo(json.dumps({"passed": passed, "checks": [c.__dict__ for c in checks]}, indent=1))
    else:
        for c in checks:
            click.echo(f"{'ok    ' if c.passed else 'FAILED'}  {c.name}: {c.seen}")
        click.echo(f"\n{statement}" if passed else "\nThe statement does not hold.")
        click.echo("Checked: integrity. Not checked: authenticity (nothing is signed).")
    sys.exit(0 if passed else 1)


def _noticed(folder: Path) -> list[str]:
    """What the notice of ``folder`` says, if it has one."""
    from dpgen.privacy.certificate import CertificateError
    from dpgen.privacy.notice import read_notice, sentences

    try:
        return sentences(read_notice(folder))
    except CertificateError:
        return []
