"""`dpgen settings` lists the settings of a method."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import click

from dpgen.commands.options import json_option

BY_SHAPE, OWN = "by the shape", "the method's own"
# Public facts for which defaults are resolved: the sizes show the defaults that depend on the size.
SIDES, N_RECORDS, N_CLASSES = (28, 64, 128), 60_000, 10
GROUP = "a group of settings"
WIDTH, INDENT = 96, 4  # of the list, in characters
MU = (
    "mu is the parameter of Gaussian differential privacy (mu-GDP) that the budget of the run, "
    "epsilon and delta, comes to. The squares of the stages' mu add up to mu^2, so a stage is "
    "given a share of mu^2: the more, the less noise it adds."
)


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

    def text(self, same_as: str | None = None) -> str:
        """Formats the setting: a line with name, default and form, then the meaning.

        Args:
            same_as: another group, which has the same settings as this one.
        """
        head = f"{self.name} = {self._default()}   ({self.form})"
        if self.form == GROUP:
            head = f"{self.name}.*"
        meaning = self.meaning
        if same_as is not None:
            meaning = meaning.removesuffix(".")
            meaning += f"; the same settings as {same_as}.*, listed below."
        lines = _wrapped(meaning, " " * INDENT)
        return "\n".join([head, *lines])

    def _default(self) -> str:
        if not self.depends_on:
            return _shown(self.default)
        keys: dict[str, list[str]] = {}
        for key, value in self.default.items():
            keys.setdefault(_shown(value), []).append(key)
        return "; ".join(f"{value} ({', '.join(which)})" for value, which in keys.items())


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False,
        break_long_words=False,
    )  # fmt: skip


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
    foreign = tuple(_refused(method, cls))
    for leaf in leaves(cls):
        if f"{leaf.name}.".startswith(foreign):
            continue
        name, form = leaf.name, GROUP if leaf.is_group else form_of(leaf.hint)
        if leaf.others is not None:
            name, form = name.rpartition(".")[0] + ".OPTION", form_of(leaf.others)
        default, depends_on = (None, "") if leaf.is_group else _default(leaf, found)
        meaning = leaf.meaning.replace("``", "`")
        settings.append(Setting(name, form, default, depends_on, meaning))
    return settings


def _refused(method: str, cls: Any) -> Iterator[str]:  # noqa: ANN401
    """Yields the prefixes of optional groups that the method shares with others and refuses."""
    from dpgen.methods import row_of
    from dpgen.settings import assign, from_dict, leaves

    for leaf in leaves(cls):
        if leaf.is_group and leaf.default is None:
            for mode in row_of(method).modes:
                values: dict[str, Any] = {"mode": mode}
                assign(values, leaf.name.split("."), {})
                with suppress(ValueError):
                    from_dict(cls, values)
                    break
            else:
                yield f"{leaf.name}."


def _listed_once(settings: Sequence[Setting]) -> Iterator[tuple[Setting, str | None]]:
    """Yields settings in order, a group that another group repeats without its settings and with
    that group's name.
    """
    groups = [one.name for one in settings if one.form == GROUP]
    members = {
        group: {one.name.removeprefix(f"{group}."): one.form for one in settings
                if one.name.startswith(f"{group}.")}
        for group in groups
    }  # fmt: skip
    repeated = {
        group: group.rpartition(".")[2] for group in groups
        if "." in group and members.get(group.rpartition(".")[2]) == members[group]
    }  # fmt: skip
    for one in settings:
        if not any(one.name.startswith(f"{group}.") for group in repeated):
            yield one, repeated.get(one.name)


def _resolved(method: str, cls: Any) -> Iterator[tuple[str, str, dict[str, Any]]]:  # noqa: ANN401
    """Yields mode, preset and resolved values; a group that the mode does not have is None."""
    from dpgen.images.facts import PublicFacts
    from dpgen.methods import OF_MODELS, row_of
    from dpgen.networks.denoiser_config import PRESETS
    from dpgen.settings import from_dict

    names = tuple(str(k) for k in range(N_CLASSES))
    if method in OF_MODELS:
        return  # no default depends on the shape of images
    for mode in row_of(method).modes:
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
    or on the preset that the size of the images chooses, it is listed for each. NAME=default takes
    back what a file of --config says, where the default follows from the method, the mode, the
    preset or the shape of the images.
    """
    found = settings_of(method)
    if as_json:
        told = {"method": method, "settings": [asdict(one) for one in found]}
        click.echo(json.dumps(told, indent=1))
        return
    from dpgen.methods import find_settings

    cls = find_settings(method)
    click.echo(f"Settings of {method}: --set NAME=VALUE, or {cls.__name__} in Python.")
    click.echo("\n".join(_wrapped(MU)))
    for one, same_as in _listed_once(found):
        click.echo(one.text(same_as))
    click.echo("Options of each sampler: `dpgen sample --help`.")
