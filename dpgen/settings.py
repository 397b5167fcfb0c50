"""Strict settings: converts between frozen dataclasses, nested by field, and plain dictionaries.

An unknown key raises an error that names the nearest known one; nothing is dropped or guessed.
"""

from __future__ import annotations

import difflib
import inspect
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, get_type_hints

from dpgen.storage.files import read_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

CONFIG_SCHEMA = "dpgen-config/1"
T = TypeVar("T", bound="DataclassInstance")
DEFAULT = "default"  # in place of None, which TOML and --set do not have
LARGEST_WHOLE = 2**63  # TOML's own limit; a number of 400 digits would not fit a float


def nearest(key: str, known: list[str]) -> str:
    found = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    return f"the nearest is {found[0]!r}" if found else "there is none"


def from_dict(
    cls: type[T], values: Mapping[str, Any], path: str = "", *, held: bool = False
) -> T:
    """Builds the dataclass ``cls`` from a dictionary, nested ones from nested dictionaries.

    A class with an attribute ``others``, a type, also takes other names, with values of that type.
    Where a setting may be None, the text "default" stands for it.

    Args:
        held: whether the values are the whole of what a run folder holds, which may be older than
            a field: a class with a function ``earlier`` completes them with what such a folder
            meant.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{path.rstrip('.') or 'settings'} must be a table, got {values!r:.60}")
    if held and (earlier := getattr(cls, "earlier", None)) is not None:
        values = earlier(values)
    hints = get_type_hints(cls)
    known, others = [f.name for f in fields(cls)], getattr(cls, "others", None)
    resolved: dict[str, Any] = {}
    for key, value in values.items():
        where = f"{path}{key}"
        if key not in known and others is None:
            raise ValueError(f"unknown setting {where!r}: {_nearest_setting(cls, key, path)}")
        resolved[key] = _convert(hints[key] if key in known else others, value, where, held)
    for needed in fields(cls):
        if needed.name not in resolved and needed.default is needed.default_factory is MISSING:
            raise ValueError(f"setting {path + needed.name!r} is missing")
    return cls(**resolved)


def _convert(hint: Any, value: Any, where: str, held: bool) -> Any:  # noqa: ANN401
    options = hint.__args__ if isinstance(hint, types.UnionType) else (hint,)
    if isinstance(value, int) and abs(value) >= LARGEST_WHOLE:
        raise ValueError(f"setting {where!r} must lie below 2**63 in size, got a larger number")
    if type(None) in options and (value is None or value == DEFAULT):
        return None
    for option in options:
        if isinstance(option, type) and is_dataclass(option):
            if isinstance(value, option):
                return value
            if isinstance(value, Mapping):
                return from_dict(option, value, f"{where}.", held=held)
        if option is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if option is int and isinstance(value, int) and not isinstance(value, bool):
            return value
        if option in (str, bool) and isinstance(value, option):
            return value
        if getattr(option, "__origin__", None) is tuple and isinstance(value, list | tuple):
            kinds = option.__args__
            each = kinds[:1] * len(value) if kinds[1:] == (...,) else kinds
            if len(each) == len(value):
                parts = enumerate(zip(each, value, strict=True))
                return tuple(
                    _convert(kind, item, f"{where}[{i}]", held) for i, (kind, item) in parts
                )
        if getattr(option, "__origin__", None) is Mapping and isinstance(value, Mapping):
            return value
    group = next((o for o in options if is_dataclass(o)), None)
    if isinstance(group, type):
        example = f"{where}.{fields(group)[0].name}"
        raise ValueError(
            f"setting {where!r} is a group: set one of it, as {example}; got {value!r:.60}"
        )
    raise ValueError(f"setting {where!r} must be {form_of(hint)}, got {value!r:.60}")


FORMS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def form_of(hint: Any) -> str:  # noqa: ANN401
    """Describes in words what a setting of this type accepts, and how a list is written."""
    if isinstance(hint, types.UnionType):
        options = [o for o in hint.__args__ if o is not type(None)]
        return "a number" if set(options) == {int, float} else " or ".join(map(form_of, options))
    if getattr(hint, "__origin__", None) is tuple:
        kinds = hint.__args__
        if kinds[1:] == (...,):
            word = FORMS[kinds[0]].removeprefix("a ")
            plural = word if kinds[0] in (str, bool) else f"{word}s"
            return f"a list of {plural}, as [{EXAMPLES[kinds[0]]}]"
        return f"a list of {len(kinds)}: {', '.join(map(form_of, kinds))}"
    return FORMS.get(hint) or f"a table of {getattr(hint, '__name__', hint)!s:.40}"


EXAMPLES = {int: "100, 200", float: "0.6, 0.4", bool: "true, false", str: '"a", "b"'}


class Leaf(NamedTuple):
    """One setting, found in a dataclass or in those nested in it.

    name: dotted name.
    hint: its type.
    default: its default.
    meaning: its description, from the docstring of its class.
    others: for a table of options, the type that describes them; None otherwise.
    is_group: whether it is a group, whose settings follow.
    """

    name: str
    hint: Any
    default: Any
    meaning: str
    others: Any = None
    is_group: bool = False


def leaves(cls: type[Any], path: str = "") -> Iterator[Leaf]:
    """Yields every setting of the dataclass ``cls`` in order, those of nested ones by dotted name.

    Raises ValueError for a field that the ``Args:`` of its class does not explain.
    """
    hints, told = get_type_hints(cls), meanings(cls)
    for one in fields(cls):
        hint, where = hints[one.name], f"{path}{one.name}"
        group = _group(hint)
        if one.name not in told:
            raise ValueError(f"{cls.__name__}.{one.name} has no line in the Args of its class")
        if group is not None:
            yield Leaf(where, group, None, told[one.name], is_group=True)
            yield from leaves(group, f"{where}.")
            continue
        default = one.default
        if one.default_factory is not MISSING:
            default = one.default_factory()
        holds = hasattr(cls, "others") and getattr(hint, "__origin__", None) is Mapping
        yield Leaf(where, hint, default, told[one.name], cls.others if holds else None)


def meanings(cls: type[Any]) -> dict[str, str]:
    """Reads the descriptions in the ``Args:`` of a class, by name; ``a, b: ...`` is for both."""
    _, _, text = (inspect.getdoc(cls) or "").partition("Args:\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in text.splitlines():
        head = re.match(r"    (\w+(?:, \w+)*): (.*)", line)
        if head is not None:
            names = head[1].split(", ")
            found |= dict.fromkeys(names, head[2].strip())
        elif line.startswith("     "):
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
        elif line.strip():
            break
    return found


def _group(hint: Any) -> type[Any] | None:  # noqa: ANN401
    """Returns the dataclass that a type is, or may be; None if it is none."""
    options = hint.__args__ if isinstance(hint, types.UnionType) else (hint,)
    return next((o for o in options if isinstance(o, type) and is_dataclass(o)), None)


def _nearest_setting(cls: type[Any], key: str, path: str) -> str:
    """Suggests the settings that may be meant: of that name in a group, else the nearest one."""
    hints = get_type_hints(cls)
    inside = [
        f"{path}{one.name}.{key}"
        for one in fields(cls)
        if (group := _group(hints[one.name])) and key in {f.name for f in fields(group)}
    ]
    if inside:
        return f"did you mean {' or '.join(map(repr, inside))}?"
    return nearest(f"{path}{key}", [f"{path}{one.name}" for one in fields(cls)])


def plain(value: Any) -> Any:  # noqa: ANN401
    """Converts tuples to lists, as a round trip through JSON does."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def read_config(folder: Path, name: str = "config.json") -> Mapping[str, Any]:
    """Reads the configuration of a finished run, from the file of this name."""
    config = read_json(folder / name)
    schema = config.get("schema") if isinstance(config, Mapping) else None
    if schema != CONFIG_SCHEMA:
        raise ValueError(
            f"{folder / name} has schema {schema!r:.60}, this version reads {CONFIG_SCHEMA}"
        )
    return config


def parse_assignment(text: str) -> tuple[list[str], Any]:
    """Parses ``a.b=3`` to (["a", "b"], 3); the value is TOML or a bare word."""
    import tomllib

    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ValueError(f"--set takes name=value, got {text!r}")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        parsed = value
    return key.strip().split("."), parsed


def assign(values: dict[str, Any], keys: list[str], value: Any) -> None:  # noqa: ANN401
    """Sets ``values[a][b] = value``, and makes dictionaries in between."""
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise ValueError(f"--set {'.'.join(keys)}: {key!r} is a value, not a group of settings")
    values[keys[-1]] = value
