"""`dpgen settings` lists the settings of a method."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import click

from dpgen.commands.options import json_option

BY_SHAPE, OWN = "by the shape", "the method's own"
# Public facts for which defaults are resolved: two sizes show the defaults that depend on the size.
SIDES, N_RECORDS, N_CLASSES = (64, 128), 60_000, 10
GROUP = "a group of settings"
WIDTH, INDENT = 96, 4  # of the list, in characters


@dataclass(frozen=True)
class Setting:
    """One setting of a method.

    Args:
        name: its name, as for ``--set``.
        form: what it accepts.
        default: the value, or the values by what they depend on.
        depends_on: "mode", "preset", "mode, preset", or "" if it is one value.
        meaning: its meaning, from the docstring of its dataclass.
    """

    name: str
    form: str
    default: Any
    depends_on: str
    meaning: str

    def text(self) -> str:
        """Formats the setting: a line with name, default and form, then the meaning."""
        head = f"{self.name} = {self._default()}   ({self.form})"
        if self.form == GROUP:
            head = f"{self.name}.*"
        lines = textwrap.wrap(
            self.meaning, WIDTH, initial_indent=" " * INDENT, subsequent_indent=" " * INDENT
        )
        return "\n".join([head, *lines])

    def _default(self) -> str:
        if not self.depends_on:
            return _shown(self.default)
        keys: dict[str, list[str]] = {}
        for key, value in self.default.items():
            keys.setdefault(_shown(value), []).append(key)
        return "; ".join(f"{value} ({', '.join(which)})" for value, which in keys.items())


def _shown(value: Any) -> str:  # noqa: ANN401
    if value is None:
        return OWN
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_shown(one)}" for name, one in value.items()) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value)


def settings_of(method: str) -> list[Setting]:
    """Lists every setting of a method, in the order of its dataclasses and with their docstrings.

    Raises ValueError for an unknown method, and for a setting without a line in ``Args:``.
    """
    from dpgen.methods import find_settings
    from dpgen.settings import form_of, leaves

    cls = find_settings(method)
    found = list(_resolved(method, cls))
    settings = []
    for leaf in leaves(cls):
        name, form = leaf.name, GROUP if leaf.is_group else form_of(leaf.hint)
        if leaf.others is not None:
            name, form = name.rpartition(".")[0] + ".OPTION", form_of(leaf.others)
        default, depends_on = (None, "") if leaf.is_group else _default(leaf, found)
        settings.append(Setting(name, form, default, depends_on, leaf.meaning))
    return settings


def _resolved(method: str, cls: Any) -> Iterator[tuple[str, str, dict[str, Any]]]:  # noqa: ANN401
    """Yields mode, preset and resolved values; a group that the mode does not have is None."""
    from dpgen.images.facts import PublicFacts
    from dpgen.methods import METHODS
    from dpgen.networks.denoiser_config import PRESETS
    from dpgen.settings import from_dict

    names = tuple(str(k) for k in range(N_CLASSES))
    for mode in METHODS[method].modes:
        for preset in PRESETS:
            foreign = []
            values: dict[str, Any] = {"mode": mode}
            for group, held in asdict(cls()).items():
                if isinstance(held, dict) and "preset" in held:
                    try:
                        from_dict(cls, values | {group: {"preset": preset}})
                    except ValueError:
                        foreign.append(group)  # of another mode
                    else:
                        values[group] = {"preset": preset}
            for side in SIDES:
                facts = PublicFacts((1, side, side), names, N_RECORDS)
                told = asdict(from_dict(cls, values).resolved(facts))
                yield mode, preset, {**told, **dict.fromkeys(foreign)}


def _default(
    leaf: Any, found: list[tuple[str, str, dict[str, Any]]]  # noqa: ANN401
) -> tuple[Any, str]:  # fmt: skip
    """Returns the default, one value or values by what they depend on, and on what it depends."""
    path = leaf.name.split(".")
    if path == ["mode"]:
        return leaf.default, ""
    if path[-1] == "preset" and leaf.default is None:
        return BY_SHAPE, ""
    values: dict[tuple[str, str], Any] = {}
    for mode, preset, told in found:
        held: Any = told
        for key in path[:-1]:
            held = held.get(key) if isinstance(held, Mapping) else None
        if held is None:  # the mode has no such group, or only where it is asked for
            continue
        value = held.get(path[-1])
        before = values.setdefault((mode, preset), value)
        if before != value:
            values[mode, preset] = BY_SHAPE
    if not values:
        return leaf.default, ""
    every = list(values.values())
    if all(value == every[0] for value in every):
        return every[0], ""
    for depends_on, part in (("mode", 0), ("preset", 1)):
        told = {key[part]: value for key, value in values.items()}
        if all(told[key[part]] == value for key, value in values.items()):
            return told, depends_on
    return {", ".join(key): value for key, value in values.items()}, "mode, preset"


@click.command()
@click.argument("method")
@json_option
def settings(method: str, as_json: bool) -> None:
    """List every setting of METHOD: default, accepted form and meaning.

    They are given as --set NAME=VALUE to `dpgen plan` and `dpgen train`, as a TOML file to
    --config, or in Python as fields of the method's settings. Where a default depends on the mode,
    or on the preset that the size of the images chooses, it is listed for each.
    """
    found = settings_of(method)
    if as_json:
        told = {"method": method, "settings": [asdict(one) for one in found]}
        click.echo(json.dumps(told, indent=1))
        return
    from dpgen.methods import find_settings

    cls = find_settings(method)
    click.echo(f"Settings of {method}: --set NAME=VALUE, or {cls.__name__} in Python.")
    for one in found:
        click.echo(one.text())
    click.echo("Options of each sampler: `dpgen sample --help`.")
