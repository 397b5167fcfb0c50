"""`dpgen settings` lists what the dataclasses say: every field, its default and its meaning."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Any, get_type_hints

import pytest

from dpgen.commands.settings import settings_of
from dpgen.images.facts import PublicFacts
from dpgen.methods import METHODS, find_settings
from dpgen.networks.denoiser_config import PRESETS
from dpgen.settings import assign, from_dict, leaves, meanings, parse_assignment
from dpgen.training.score_matching import LOSSES
from tests.commands import dpgen


def _names(cls: Any, path: str = "") -> list[str]:  # noqa: ANN401
    found = []
    for one in fields(cls):
        hint = get_type_hints(cls)[one.name]
        inner = [o for o in getattr(hint, "__args__", (hint,)) if is_dataclass(o)]
        found.append(f"{path}{one.name}")
        found += _names(inner[0], f"{path}{one.name}.") if inner else []
    return found


# Groups of settings that a method refuses.
REFUSED: dict[str, tuple[str, ...]] = {
    "dp-sad": ("teacher.init.",),
    "dpdm": ("teacher.init.",),
    "pge": ("teacher.init.",),
    "dfkd": ("sketch.spectrum.",),
    "dpsd": ("sketch.spectrum.", "sketch.classifier.", "votes.silos."),
    "dgd": ("sketch.spectrum.", "votes.silos."),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_field_is_listed_once_with_a_line_of_meaning(method: str) -> None:
    listed = settings_of(method)
    expected = [
        name.replace("sampler.options", "sampler.OPTION")
        for name in _names(find_settings(method))
        if not f"{name}.".startswith(REFUSED.get(method, ()))
    ]
    assert [one.name for one in listed] == expected
    assert all(one.form and one.meaning.endswith((".", ")")) for one in listed)


def test_a_field_without_a_line_in_the_docstring_is_an_error_that_names_it() -> None:
    @dataclass(frozen=True)
    class Settings:
        """Settings.

        Args:
            steps: how many.
        """

        steps: int = 1
        bands: int = 2

    with pytest.raises(ValueError, match="Settings.bands has no line in the Args"):
        list(leaves(Settings))


def test_a_line_of_two_names_and_a_line_that_goes_on_are_read_whole() -> None:
    class Settings:
        """Settings.

        Args:
            low, high: ends of
                the range: both.
            last: one.

        Not of last.
        """

    assert meanings(Settings) == {
        "low": "ends of the range: both.", "high": "ends of the range: both.", "last": "one.",
    }  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("side", [8, 28, 64])
def test_listed_defaults_are_those_of_a_run(method: str, side: int) -> None:
    facts = PublicFacts((1, side, side), tuple("0123456789"), 60_000)
    cls = find_settings(method)
    resolved = asdict(cls().resolved(facts))
    mode, preset = resolved["mode"], resolved.get("teacher", {}).get("preset", "")
    key_of = {"": "", "mode": mode, "preset": preset, "mode, preset": f"{mode}, {preset}"}
    n_compared = 0
    for one in settings_of(method):
        default = one.default[key_of[one.depends_on]] if one.depends_on else one.default
        held: Any = resolved
        for part in one.name.split("."):
            held = held.get(part) if isinstance(held, dict) else None
        if held is None or default == "by the shape" or isinstance(held, dict):
            continue
        assert held == default, one.name
        n_compared += 1
    assert n_compared > 9


def test_the_list_shows_defaults_by_preset_and_is_json_on_request() -> None:
    text = dpgen("settings", "dpdm").output
    assert "teacher.n_steps = 2000 (quick, small, base); 40 (tiny)   (a whole number)" in text
    rows = json.loads(dpgen("settings", "dpdm", "--json").output)["settings"]
    row = next(one for one in rows if one["name"] == "teacher.n_steps")
    assert row["depends_on"] == "preset" and row["default"]["tiny"] == 40


@pytest.mark.parametrize("method", METHODS)
def test_a_stranger_can_read_the_list(method: str) -> None:
    settings, text = settings_of(method), " ".join(dpgen("settings", method).output.split())
    assert "mu is the parameter of Gaussian differential privacy" in text
    *most, last = PRESETS
    for one in settings:
        assert not one.meaning.startswith("of ") and "None" not in one.meaning, one.name
        if one.name.endswith(".preset"):
            assert f"{', '.join(most)} or {last}; unless given" in one.meaning
    *most, last = LOSSES
    for one in settings:
        if one.name == "teacher.loss":
            assert one.meaning.endswith(f"minimises: {', '.join(most)} or {last}.")


def test_settings_that_two_groups_share_are_listed_once() -> None:
    text = dpgen("settings", "pge").output
    assert text.count("sketch.hidden_bandwidths = ") == 1
    assert "teacher.sketch.*\n" in text
    assert "the same settings as sketch.*, listed below" in " ".join(text.split())
    alone = dpgen("settings", "dpdm").output
    assert alone.count("teacher.sketch.hidden_bandwidths = ") == 1 and "same settings" not in alone


def test_default_takes_back_what_follows_from_facts_and_nothing_else() -> None:
    values: dict[str, Any] = {"teacher": {"preset": "tiny", "n_steps": 3}}
    for text in ("teacher.preset=default", "teacher.n_steps=default", "teacher.sketch=default"):
        assign(values, *parse_assignment(text))
    assert from_dict(find_settings("dpdm"), values) == find_settings("dpdm")()
    held = from_dict(find_settings("pge"), {"mode": "sketch", "sketch": {"augment": "none"}})
    assert held.sketch.augment == "none"  # a value of its own
    assign(values, *parse_assignment("teacher.clip_norm=default"))
    with pytest.raises(ValueError, match=r"'teacher.clip_norm' must be a number, got 'default'"):
        from_dict(find_settings("dpdm"), values)


def test_settings_of_an_unknown_method_name_the_nearest() -> None:
    result = dpgen("settings", "dpdmm")
    assert result.exit_code == 2 and "the nearest is 'dpdm'" in result.output


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("n_steps=4", "did you mean 'teacher.n_steps' or 'sampler.n_steps'?"),
        ("teacher=3", "setting 'teacher' is a group: set one of it, as teacher.preset; got 3"),
        ("teacher.n_stps=3", "unknown setting 'teacher.n_stps': the nearest is 'teacher.n_steps'"),
        ("teacher.n_steps=abc", "setting 'teacher.n_steps' must be a whole number, got 'abc'"),
        ("teacher.n_steps=1.5", "setting 'teacher.n_steps' must be a whole number, got 1.5"),
        ("teacher.sketch.rounds=3", "must be a list of numbers, as [0.6, 0.4], got 3"),
    ],
)
def test_an_assignment_that_does_not_fit_is_told_the_accepted_form(
    assignment: str, message: str
) -> None:
    values: dict[str, Any] = {}
    assign(values, *parse_assignment(assignment))
    with pytest.raises(ValueError) as caught:
        from_dict(find_settings("dpdm"), values)
    assert message in str(caught.value)


@pytest.mark.parametrize("method", METHODS)
def test_every_listed_default_is_accepted_as_it_is_shown(method: str) -> None:
    cls = find_settings(method)
    for one in settings_of(method):
        if not one.name.startswith(("teacher.", "student.")) or one.name.count(".") > 1:
            continue
        default = next(iter(one.default.values())) if one.depends_on else one.default
        if one.form == "a group of settings" or default == "by the shape":
            continue
        shown = f'"{default}"' if isinstance(default, str) else str(default)
        if isinstance(default, bool):
            shown = shown.lower()
        values: dict[str, Any] = {}
        assign(values, *parse_assignment(f"{one.name}={shown}"))
        group, name = one.name.split(".")
        assert from_dict(cls, values) == replace(
            cls(), **{group: replace(getattr(cls(), group), **{name: default})}
        )
