"""Settings are strict: what goes in comes out, anything else is an error that names the nearest
key.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import pytest

from dpgen.methods.dp_sad import DPSADSettings
from dpgen.settings import assign, from_dict, nearest, parse_assignment


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    steps: int = 1
    bands: int | None = None
    mode: str = "a"
    on: bool = False
    inner: Inner = field(default_factory=Inner)


def test_dictionaries_of_settings_come_back_equal() -> None:
    settings = Outer(3, None, "b", True, Inner(0.25, ("x", "y")))
    values = {"steps": 3, "bands": None, "mode": "b", "on": True,
              "inner": {"rate": 0.25, "names": ["x", "y"]}}  # fmt: skip
    assert from_dict(Outer, values) == settings
    assert from_dict(Outer, asdict(settings)) == settings
    assert from_dict(Outer, {}) == Outer()
    assert from_dict(Outer, {"bands": 4}).bands == 4
    whole = DPSADSettings()
    assert from_dict(DPSADSettings, asdict(whole)) == whole


def test_a_whole_number_serves_as_a_float_and_becomes_one() -> None:
    rate = from_dict(Inner, {"rate": 1}).rate
    assert rate == 1.0 and isinstance(rate, float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"step": 3}, "unknown setting 'step': the nearest is 'steps'"),
        ({"inner": {"rat": 1.0}}, r"unknown setting 'inner\.rat': the nearest is 'inner.rate'"),
        ({"steps": 1.5}, "setting 'steps' must be a whole number, got 1.5"),
        ({"steps": True}, "setting 'steps' must be a whole number, got True"),
        ({"inner": {"rate": True}}, r"setting 'inner\.rate' must be a number, got True"),
        ({"steps": None}, "setting 'steps' must be a whole number, got None"),
        ({"bands": "4"}, "setting 'bands' must be a whole number, got '4'"),
        ({"mode": 1}, "setting 'mode' must be text, got 1"),
        ({"on": 1}, "setting 'on' must be true or false, got 1"),
        ({"inner": 3}, r"setting 'inner' is a group: set one of it, as inner\.rate; got 3"),
        ({"inner": {"rate": 10**400}}, r"setting 'inner\.rate' must lie below 2\*\*63 in size"),
        ({"steps": -(2**63)}, r"setting 'steps' must lie below 2\*\*63 in size"),
        ({"inner": {"names": "xy"}}, r"setting 'inner\.names' must be a list of text, as .* 'xy'"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_dict(Outer, values)


@pytest.mark.parametrize(
    ("text", "keys", "value"),
    [
        ("teacher.n_steps=3", ["teacher", "n_steps"], 3),
        ("rate = 1e-3", ["rate"], 1e-3),
        ("mode=sealed", ["mode"], "sealed"),
        ('mode="a=b"', ["mode"], "a=b"),
        ("mode=a=b", ["mode"], "a=b"),
        ("on=true", ["on"], True),
        ("names=['x','y']", ["names"], ["x", "y"]),
        ("empty=", ["empty"], ""),
    ],
)
def test_assignments_read_toml_or_a_bare_word(text: str, keys: list[str], value: object) -> None:
    assert parse_assignment(text) == (keys, value)


@pytest.mark.parametrize("text", ["steps", "=3", " =3"])
def test_what_is_no_assignment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--set takes name=value, got"):
        parse_assignment(text)


def test_a_value_too_deep_for_toml_is_a_word() -> None:
    assert parse_assignment("steps=" + "[" * 10_000) == (["steps"], "[" * 10_000)


def test_later_assignments_go_over_earlier_ones_and_into_groups() -> None:
    values: dict[str, object] = {"inner": {"rate": 0.1}}
    assign(values, ["inner", "names"], ["x"])
    assign(values, ["inner", "rate"], 0.2)
    assign(values, ["new", "deep", "key"], 1)
    assert values == {"inner": {"rate": 0.2, "names": ["x"]}, "new": {"deep": {"key": 1}}}
    with pytest.raises(ValueError, match=r"--set new\.deep\.key\.more: 'key' is a value"):
        assign(values, ["new", "deep", "key", "more"], 2)


def test_the_nearest_name_is_offered_however_far_it_is() -> None:
    assert nearest("dpsad", ["dp-sad", "dpdm"]) == "the nearest is 'dp-sad'"
    assert nearest("zzz", ["dp-sad"]) == "the nearest is 'dp-sad'"
    assert nearest("x", []) == "there is none"
