"""The command line, in this process."""

from __future__ import annotations

from click.testing import CliRunner, Result

from dpgen.commands.cli import main


def dpgen(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
