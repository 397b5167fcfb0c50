"""The command that comes next: one line that can be pasted, after what a command has printed."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Mapping
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

N_IMAGES = 10_000  # that a first set is drawn with
EPSILON = 3  # where none was chosen yet


def say_next(*words: object) -> None:
    """Prints ``next: dpgen ...`` on standard error.

    Args:
        words: of the command line; paths as `Path`, which may hold any character.
    """
    from dpgen.commands.cli import one_line

    typed = [_positional(word) if isinstance(word, Path) else str(word) for word in words]
    click.echo(f"next: {one_line(shlex.join(['dpgen', *typed]))}", err=True)


def _positional(path: Path) -> str:
    """Writes a path so that it is not taken for an option."""
    return f"./{path}" if str(path).startswith("-") else str(path)


def carried(to: click.Command, *, but: Collection[str] = ("quiet",)) -> list[str]:
    """Returns what was typed for the running command and means the same to another one.

    Args:
        to: the other one.
        but: names of parameters that are left out.
    """
    context = click.get_current_context()
    theirs = {option.name: option for option in to.params if isinstance(option, click.Option)}
    words: list[str] = []
    for parameter in context.command.params:
        option, name = theirs.get(parameter.name), str(parameter.name)
        typed = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if option is None or name in but or not typed:
            continue
        value = context.params[name]
        for one in value if option.multiple else [value]:
            words += [option.opts[-1]] if option.is_flag else [option.opts[-1], _typed(one)]
    return words


def _typed(value: Any) -> str:  # noqa: ANN401
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def fresh(path: Path) -> Path:
    """Returns ``path``, or the first of ``path-2``, ``path-3`` and so on that is not there."""
    return next(one for one in _numbered(path) if not one.exists())


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    for k in count(2):
        yield path.with_name(f"{path.name}-{k}")


def beside(folder: Path, what: str) -> Path:
    """Returns a name for a new folder that is made of ``folder``.

    >>> beside(Path("out/run"), "images"), beside(Path(".."), "images")
    (PosixPath('out/run-images'), PosixPath('images'))
    """
    named = folder.name not in ("", "..")
    return fresh(folder.with_name(f"{folder.name}-{what}") if named else Path(what))


def say_sample(run: Path, *, unverified: bool, n_images: int | None = None) -> None:
    """Says how a set is drawn from a run.

    Args:
        run: its folder.
        unverified: whether it carries a notice.
        n_images: how many different images its model holds; None if it draws every image anew.
    """
    more = ["--allow-unverified"] if unverified else []
    say_next("sample", run, "-n", n_images or N_IMAGES, "--out", beside(run, "images"), *more)


def say_sign(folder: Path) -> None:
    """Says how a set or a run is signed, and which package has to be installed before."""
    if find_spec("cryptography") is None:
        click.echo("signing needs the package cryptography: pip install cryptography", err=True)
    say_next("sign", folder, "--key", "FILE")


def say_evaluate(folder: Path, document: Mapping[str, Any]) -> None:
    """Says how a set is compared with real images, which have to be brought to its shape.

    Args:
        folder: of the set.
        document: its statement or notice.
    """
    from dpgen.commands.run_notes import note_of

    part: Mapping[str, Any] = document.get("mixture", {}).get("parts", [document])[0]
    data_set = part.get("data_set", {})
    note = note_of(str(data_set.get("name")))
    if "public" in str(data_set.get("ledger")):
        words = ["--reference", "digits"]
    elif note is not None:
        words = ["--reference", note.data, *note.reading]
    else:
        channels, height, width = part["facts"]["shape"]
        sized = ["--size", str(height)] if height == width else []
        words = ["--reference", "DATA", *sized, "--channels", str(channels)]
    fair = click.get_current_context().params.get("fair")
    say_next("evaluate", folder, *words, *([] if fair is None else ["--fair", str(fair)]))
