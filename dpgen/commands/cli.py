"""The command line. Results on standard output, progress on standard error.

Exit status: 0 done; 1 the check said no; 2 bad input or budget refused, nothing written; 3 the
machine failed (disk, memory); 130 interrupted. After both run the same command again: train,
transcribe and benchmark go on where they stopped, the others start from the beginning.

Commands import what they use when they run: `dpgen --help` loads neither torch nor diffusers.
"""

from __future__ import annotations

import errno
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from dpgen.arguments import as_typed
from dpgen.commands.audit import audit
from dpgen.commands.benchmark import benchmark
from dpgen.commands.card import card
from dpgen.commands.evaluate import evaluate
from dpgen.commands.export import export
from dpgen.commands.help_pages import HelpContext
from dpgen.commands.inspect import inspect
from dpgen.commands.join import join
from dpgen.commands.listings import ledger, methods
from dpgen.commands.mix import mix
from dpgen.commands.questions import questions
from dpgen.commands.sample import sample
from dpgen.commands.settings import settings
from dpgen.commands.train import plan, train
from dpgen.commands.transcribe import transcribe
from dpgen.commands.verify import sign, verify
from dpgen.data.formats.refusals import FilesRefused
from dpgen.data.formats.table import described

PACKAGE = Path(__file__).parents[1]
# Commands that keep what they did before an interruption.
RESUMED = ("train", "transcribe", "benchmark")
SAID_NO, REFUSED, MACHINE_FAILED, INTERRUPTED = 1, 2, 3, 130


class _Program(click.Group):
    """Turns errors into one clear line and the right exit status."""

    context_class = HelpContext

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        cmd.context_class = HelpContext
        super().add_command(cmd, name)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        try:
            with warnings.catch_warnings():
                warnings.showwarning = partial(_note, warnings.showwarning, set())
                return super().invoke(ctx)
        except (ValueError, OSError, MemoryError, KeyboardInterrupt) as error:
            if isinstance(error, BrokenPipeError) and _unread():
                raise  # click then ends without a word
            if ctx.params.get("verbose"):
                traceback.print_exc()
            status, text = _outcome(error, ctx.invoked_subcommand)
            lines = text.split("\n") if isinstance(error, FilesRefused) else [text]
        click.echo("\n".join(["dpgen: " + one_line(lines[0]), *map(one_line, lines[1:])]), err=True)
        ctx.exit(status)


def _unread() -> bool:
    """Returns whether the reader of standard output has gone, as `head` does."""
    try:
        print(flush=True)  # what was to be written before is gone, as is any error about it
    except BrokenPipeError:
        return True
    return False


def _note(
    usual_fn: Callable[..., None], told: set[str], message: Warning | str, category: type[Warning],
    filename: str, *rest: Any,  # noqa: ANN401
) -> None:  # fmt: skip
    """Prints a warning of this package as one line, without the place in the source that Python
    puts before it, and once however often a command opens its data; one of another package as
    usual.
    """
    if PACKAGE in Path(filename).parents:
        text = one_line(str(message))
        if text not in told:
            click.echo(f"dpgen: note: {text}", err=True)
        told.add(text)
    else:
        usual_fn(message, category, filename, *rest)


def one_line(text: str) -> str:
    """Removes characters that move the cursor from a text, as names of files may hold any."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


_INPUT_ERRORS = (
    ValueError,
    FileNotFoundError,
    PermissionError,
    NotADirectoryError,
    IsADirectoryError,
)


def _outcome(error: BaseException, command: str | None) -> tuple[int, str]:
    """Returns the exit status of an error of a command, and the line that reports it."""
    if isinstance(error, _INPUT_ERRORS):
        from dpgen.privacy.statements.notice import UnverifiedClaim

        if isinstance(error, UnverifiedClaim):
            return SAID_NO, as_typed(error)
        return REFUSED, as_typed(error)
    if isinstance(error, KeyboardInterrupt):
        if command in RESUMED:
            return INTERRUPTED, "interrupted; the same command goes on where this one stopped"
        return INTERRUPTED, "interrupted; the same command starts from the beginning"
    again = "run the same command again"
    if isinstance(error, MemoryError):
        return MACHINE_FAILED, as_typed(error) or f"out of memory: free some, then {again}"
    full = isinstance(error, OSError) and error.errno == errno.ENOSPC
    cure = f"make space, then {again}" if full else again
    return MACHINE_FAILED, f"the machine failed ({error}): {cure}"


def _show_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"dpgen {version('dpgen')}")
        ctx.exit()


HELP = f"""Learn once from private images under differential privacy, then sample for ever.

\b
A first run, on digits that come with the package:
  dpgen plan     dp-sad --data digits --epsilon 10
  dpgen train    dp-sad --data digits --epsilon 10 --out run
  dpgen sample   run -n 10000 --out images --preview images.png
  dpgen evaluate images --reference digits
  dpgen verify   images

DATA is `digits`, or a path to {described()};
a zip archive of these, or an address of them (s3://, gs://, hf://, ...). `dpgen inspect DATA` shows
what would be read, and `dpgen questions` answers what people ask.
"""


@click.group(
    cls=_Program, help=HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)  # fmt: skip
@click.option("-v", "--verbose", is_flag=True, help="Show the traceback of an error.")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version,
              help="Show the version and exit.")  # fmt: skip
def main(verbose: bool) -> None:
    """Runs the command line of the package."""


for command in (
    inspect, plan, train, transcribe, sample, join, card, export, mix, evaluate, benchmark, verify,
    sign, audit, methods, settings, ledger, questions,
):  # fmt: skip
    main.add_command(command)
