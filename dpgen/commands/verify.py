"""`dpgen verify` and `dpgen sign`."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dpgen.commands.next_command import carried, say_next, say_sample, say_sign
from dpgen.commands.options import json_option

if TYPE_CHECKING:
    from dpgen.privacy.statements.proofs import Theorem
    from dpgen.privacy.verification.check import Check


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
@click.option(
    "--explain", is_flag=True,
    help="Print the theorems that the guarantee rests on, with their proofs.",
)
@json_option
def verify(
    folder: Path, models: tuple[Path, ...], ledger: Path | None, public_key: Path | None,
    explain: bool, as_json: bool,
) -> None:  # fmt: skip
    """Recompute epsilon from the stages of a run or a synthetic set, and check everything that
    stands in two places against each other.

    A check that could not be made says skip, and does not change the exit status.
    """
    from dpgen.data.identity import home
    from dpgen.methods.planned import planned_checks
    from dpgen.privacy.statements.certificate import CertificateError, read_statement
    from dpgen.privacy.verification.parentage import trace
    from dpgen.privacy.verification.signature import signature_check
    from dpgen.privacy.verification.verify import verify as check

    for path in (folder, *models, *(p for p in (ledger, public_key) if p is not None)):
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
    ledgers = [ledger] if ledger is not None else sorted((home() / "ledgers").glob("*.jsonl"))
    try:
        checks = [
            *check(folder),
            *(check for path in (folder, *models) for check in planned_checks(path)),
            *trace(folder, models=models, ledgers=ledgers),
            signature_check(folder, public_key),
            *_of_set(folder),
        ]
        statement = read_statement(folder)
    except CertificateError as error:
        click.echo(f"FAILED: {error}", err=True)
        for line in _noticed(folder):
            click.echo(line, err=True)
        sys.exit(1)
    passed = not any(c.failed for c in checks)
    theorems = _theorems(statement) if explain and passed else []
    if as_json:
        rows = [{"name": c.name, "state": c.state.lower(), "seen": c.seen} for c in checks]
        texts = [{**theorem.cited, "text": theorem.text} for theorem in theorems]
        told = {"passed": passed, "checks": rows} | ({"theorems": texts} if explain else {})
        click.echo(json.dumps(told, indent=1))
    else:
        for c in checks:
            click.echo(f"{c.state:6}  {c.name}: {c.seen}")
        said = statement["statement"]
        click.echo(f"\n{said}" if passed else "\nThe statement does not hold.")
        click.echo(
            "Checked: integrity. Not checked: authenticity (no public key was given)."
            if public_key is None
            else "Checked: integrity, and authenticity under the key that was given."
        )
        for theorem in theorems:
            click.echo(f"\n{theorem.text.rstrip()}")
        if passed:
            _say_what_follows(folder, statement, keyed=public_key is not None)
    sys.exit(0 if passed else 1)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--key", required=True, metavar="FILE", type=click.Path(path_type=Path),
    help="Ed25519 private key in PEM: openssl genpkey -algorithm ed25519 -out FILE",
)  # fmt: skip
def sign(folder: Path, key: Path) -> None:
    """Sign the privacy statement of a run or a synthetic set, and with it every file.

    Anyone with your public key (openssl pkey -in FILE -pubout) checks with `dpgen verify FOLDER
    --public-key`. Needs the package cryptography.
    """
    from dpgen.methods.planned import require_planned
    from dpgen.privacy.statements.certificate import CertificateError
    from dpgen.privacy.verification.signature import sign as write
    from dpgen.release.cards import require_compared

    try:
        require_planned(folder)
        if _is_set(folder):
            require_compared(folder)
        name = write(folder, key)
    except CertificateError as error:
        click.echo(f"FAILED: {error}", err=True)
        sys.exit(1)
    click.echo(f"{folder / 'privacy.sig'}, by the key {name}")
    public = key.with_name(f"{key.stem}-public.pem")
    if not public.exists():
        made = shlex.join(["openssl", "pkey", "-in", str(key), "-pubout", "-out", str(public)])
        click.echo(f"before others can check it: {made}", err=True)
    say_next("verify", folder, "--public-key", public)


def _say_what_follows(folder: Path, statement: dict[str, Any], *, keyed: bool) -> None:
    """Says what follows a verification: a run is sampled, a set is signed, a signature checked."""
    if "teachers" in statement and statement["artifact"]["kind"] == "model":
        say_next("evaluate", folder, "--reference", "DATA")  # it draws no images
    elif statement["artifact"]["kind"] != "synthetic_dataset":
        say_sample(folder, unverified=False, n_images=_n_distinct(folder, statement))
    elif not (folder / "privacy.sig").exists():
        say_sign(folder)
    elif not keyed:
        say_next("verify", folder, *carried(verify), "--public-key", "FILE")


def _n_distinct(folder: Path, statement: dict[str, Any]) -> int | None:
    """Returns how many different images the model of a run holds, by the run's settings: no network
    is loaded. None if it draws every image anew.
    """
    from dpgen.settings import read_config

    condensed = read_config(folder)["settings"].get("condensed")
    if condensed is None:
        return None
    return int(condensed["images_per_class"] * len(statement["facts"]["class_names"]))


def _noticed(folder: Path) -> list[str]:
    """Returns the sentences of the notice in ``folder``, if it has one."""
    from dpgen.privacy.statements.certificate import CertificateError
    from dpgen.privacy.statements.notice import read_notice, sentences

    try:
        return sentences(read_notice(folder))
    except CertificateError:
        return []


def _of_set(folder: Path) -> list[Check]:
    """Checks the labels and the pages of a set against its statement; nothing for a run, which has
    neither, so that torch is not loaded.
    """
    if not _is_set(folder):
        return []
    from dpgen.release.cards import cards_check
    from dpgen.synthetic.labels import labels_checks

    return [*labels_checks(folder), cards_check(folder)]


def _is_set(folder: Path) -> bool:
    """Returns whether the statement in ``folder`` is of a set; otherwise it is of a run."""
    from dpgen.privacy.statements.certificate import read_statement
    from dpgen.privacy.verification.verify import reading

    with reading(folder):
        kind: str = read_statement(folder)["artifact"]["kind"]
    return kind == "synthetic_dataset"


def _theorems(statement: dict[str, Any]) -> list[Theorem]:
    """Returns the theorems that a valid statement rests on, then all that their proofs use."""
    from dpgen.privacy.statements.mixture import applying_to
    from dpgen.privacy.statements.proofs import applying, with_lemmas

    if "mixture" in statement:
        mixture = statement["mixture"]
        found = applying_to(mixture["parts"], mixture["rule"])
    else:
        found = applying(statement["mechanism"]["stages"])
    return with_lemmas(theorem.name for theorem in found)
