"""`dpgen verify` and `dpgen sign`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from dpgen.commands.options import json_option


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--model", "models", multiple=True, metavar="RUN", type=click.Path(path_type=Path),
    help="The run that a synthetic set was drawn from; repeat it for a mixture. Default: looked "
    "for beside the set.",
)  # fmt: skip
@click.option(
    "--ledger", metavar="FILE", type=click.Path(path_type=Path),
    help="The ledger of the data set; default: looked for in this installation.",
)  # fmt: skip
@click.option(
    "--public-key", metavar="FILE", type=click.Path(path_type=Path),
    help="Whose signature it must be: an Ed25519 public key in PEM.",
)  # fmt: skip
@json_option
def verify(
    folder: Path, models: tuple[Path, ...], ledger: Path | None, public_key: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Recompute epsilon from the events of a run or a synthetic set, and check every hash."""
    from dpgen.data.identity import home
    from dpgen.privacy.certificate import CertificateError, read_statement
    from dpgen.privacy.parentage import trace
    from dpgen.privacy.signature import signature_check
    from dpgen.privacy.verification import verify as check

    for path in (folder, *models, *(p for p in (ledger, public_key) if p is not None)):
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
    ledgers = [ledger] if ledger is not None else sorted((home() / "ledgers").glob("*.jsonl"))
    try:
        checks = [
            *check(folder),
            *trace(folder, models=models, ledgers=ledgers),
            signature_check(folder, public_key),
        ]
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
        click.echo(
            "Checked: integrity. Not checked: authenticity (no public key was given)."
            if public_key is None
            else "Checked: integrity, and authenticity under the key that was given."
        )
    sys.exit(0 if passed else 1)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--key", required=True, metavar="FILE", type=click.Path(path_type=Path),
    help="Ed25519 private key in PEM: openssl genpkey -algorithm ed25519 -out FILE",
)  # fmt: skip
def sign(folder: Path, key: Path) -> None:
    """Sign the privacy statement of a run or a synthetic set, and with it every file.

    Whoever has your public key (openssl pkey -in FILE -pubout) checks with `dpgen verify FOLDER
    --public-key`. Needs the extra `secure`.
    """
    from dpgen.privacy.certificate import CertificateError
    from dpgen.privacy.signature import sign as write

    try:
        name = write(folder, key)
    except CertificateError as error:
        click.echo(f"FAILED: {error}", err=True)
        sys.exit(1)
    click.echo(f"{folder / 'privacy.sig'}, by the key {name}")


def _noticed(folder: Path) -> list[str]:
    """What the notice of ``folder`` says, if it has one."""
    from dpgen.privacy.certificate import CertificateError
    from dpgen.privacy.notice import read_notice, sentences

    try:
        return sentences(read_notice(folder))
    except CertificateError:
        return []
