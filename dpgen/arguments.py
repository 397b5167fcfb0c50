"""Replaces options of the command line in error messages by arguments of Python.

Messages name the option, as ``--size``. Functions that are called from Python raise them with the
argument instead, as ``size=``; the command line shows the original message (`as_typed`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def _text(value: str) -> str:
    return repr(value)


def _as_is(value: str) -> str:
    return value


def _names(value: str) -> str:
    return f"[{value.replace(',', ', ')}]" if "," in value else value


def _pair(value: str) -> str:
    return f"({value.replace(',', ', ')})"


# By option: the argument, in which {} is the value; a pattern of the values that may follow it; how
# a value is written in Python. Without a value the argument ends in "=".
ARGUMENTS: dict[str, tuple[str, str, Callable[[str], str]]] = {
    "adjacency": ("adjacency={}", "add_remove|replace_one", _text),
    "allow-unverified": ("allow_unverified=True", "", _as_is),
    "channels": ("channels={}", r"\d", _as_is),
    "classes": ("classes={}", r"NAME,NAME|N\b|\d[\d,]*|[a-z]+,[a-z]+", _names),
    "device": ("hardware=Hardware(device={})", "cpu|auto", _text),
    "facts": ("facts=PublicFacts(...)", "FILE", _as_is),
    "fair": ("fair={}", r"FILE\b", _as_is),
    "init": ("init={}", r"FOLDER\b|/[^\s,;]*[^\s,;:.]", _text),
    "label-column": ("label_column={}", r"[\w-]+", _text),
    "labels": ("labels={}", "released", _text),
    "ledger": ("ledger={}", r"(?:NEW)?FILE\b|/[^\s,;]*[^\s,;:.]", _text),
    "limit": ("limit={}", "EPSILON", _as_is),
    "max-records-per-unit": ("max_records_per_unit={}", r"M\b|\d+", _as_is),
    "max-records-per-silo": ("max_records_per_silo={}", r"M\b|\d+", _as_is),
    "micro-batch": ("hardware=Hardware(micro_batch={})", r"\d+", _as_is),
    "overlap": ("overlap={}", "refuse|charge|separate", _text),
    "public": ("public={}", r"DATA\b", _as_is),
    "silo": ("silo={}", r"folder\b|top-folder\b", _text),
    "silos": ("silos={}", "NAME,NAME", _names),
    "readers": ("hardware=Hardware(readers={})", "one|all", _text),
    "size": ("size={}", r"\d+", _as_is),
    "split": ("split={}", "train|test|all", _text),
    "unit": ("unit={}", r"folder\b", _text),
    "value-range": ("value_range={}", "LOW,HIGH", _pair),
}
_COMMAND = r"dpgen [a-z]+(?: --?[a-z][a-z-]*(?: [^\s-]\S*)?| [A-Z]+\b)*"
_OPTION = "|".join(
    f"--(?P<o{k}>{re.escape(name)})(?![a-z-])" + (f"(?: (?P<v{k}>{values}))?" if values else "")
    for k, (name, (_, values, _)) in enumerate(ARGUMENTS.items())
)
_BOTH = re.compile(r" \(\w+=[^()]*?(?: in Python|True)\)")  # in messages that name both already
_TYPED = re.compile(f"(?P<command>{_COMMAND})|{_OPTION}")


def in_python(text: str) -> str:
    """Replaces options in a text by arguments, except in commands that it quotes."""

    def argument(match: re.Match[str]) -> str:
        if match["command"] is not None:
            return match[0]
        for k, (form, values, write) in enumerate(ARGUMENTS.values()):
            if match[f"o{k}"] is not None:
                value = match[f"v{k}"] if values else None
                return form.format("" if value is None else write(value))
        raise AssertionError(match)

    return _TYPED.sub(argument, _BOTH.sub("", text))


def speaks_python(function: Callable[P, R]) -> Callable[P, R]:
    """Makes a function's error messages name arguments instead of options; a decorator."""

    @functools.wraps(function)
    def spoken(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except (ValueError, MemoryError) as error:
            typed = as_typed(error)
            if len(error.args) == 1 and isinstance(error.args[0], str):
                error.args = (in_python(typed),)
                error.__dict__["typed"] = typed
            raise

    return spoken


def as_typed(error: BaseException) -> str:
    """Returns the message of an error as the command line shows it."""
    return str(error.__dict__.get("typed", error))
