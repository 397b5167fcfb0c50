"""Which target and which group a class stands for, as declared in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dpgen.images.fair_classes import FairClasses, parity_gap, read_fair

CLASSES = {"ill_f": ("ill", "f"), "ill_m": ("ill", "m"), "well_f": ("well", "f"),
           "well_m": ("well", "m")}  # fmt: skip
LINES = "".join(f'{name} = ["{t}", "{g}"]\n' for name, (t, g) in CLASSES.items())


def test_a_file_in_toml_and_in_json_says_the_same(tmp_path: Path) -> None:
    toml, other = tmp_path / "fair.toml", tmp_path / "fair.json"
    toml.write_text(f"[classes]\n{LINES}[targets]\nill = 0.3\nwell = 0.7\n")
    other.write_text(json.dumps({"classes": CLASSES, "targets": {"ill": 0.3, "well": 0.7}}))
    assert read_fair(toml) == read_fair(other)
    assert read_fair(toml) == FairClasses(CLASSES, {"ill": 0.3, "well": 0.7})


def test_classes_take_the_order_of_the_labels_and_must_be_exactly_those() -> None:
    fair = FairClasses(dict(reversed(CLASSES.items())))
    assert fair.target_names == ("well", "ill") and fair.of(list(CLASSES)).target_names[0] == "ill"
    assert list(fair.of(list(CLASSES)).classes) == list(CLASSES)
    with pytest.raises(ValueError, match=r"no class 'well_m': the nearest is 'well_f'"):
        fair.of(["ill_f", "ill_m", "well_f"])
    with pytest.raises(ValueError, match="of every class, missing: other, unknown"):
        fair.of([*CLASSES, "other", "unknown"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LINES, "must hold a table 'classes'"),
        (f"[classes]\n{LINES}[target]\nill = 1\n", "got 'target': the nearest is 'targets'"),
        (f"[classes]\n{LINES}[targets]\nill = 1\n", "targets must have a weight .* missing: well"),
        (f"[classes]\n{LINES}[groups]\nf = 1\nm = 0\n", "weight of group 'm' must be a number gre"),
        (f"[classes]\n{LINES}[groups]\nf = 1\nm = true\n", "weight of group 'm' must be a number"),
        (f"[classes]\n{LINES}[groups]\nf = inf\nm = 1\n", "group 'f' must be a number greater"),
        (f"[classes]\n{LINES}[groups]\nf = 1\nn = 1\n", "no group 'n': the nearest is 'm'"),
        ('[classes]\na = ["x", "f"]\nb = ["y", "f"]\n', "at least two groups, got 'f'"),
        ('[classes]\na = ["x", "f"]\nb = ["x", "m"]\n', "at least two targets, got 'x'"),
        ('[classes]\na = ["x", "f"]\nb = ["y", "m"]\n', "no class has the target 'y' and the gro"),
        ('[classes]\na = ["x"]\n', "class 'a' must have a target and a group"),
        ('[classes]\na = "xy"\n', "class 'a' must have a target and a group"),
        ('[classes]\na = ["x", 1]\n', "class 'a' must have a target and a group"),
        ('[classes]\na = ["", "f"]\n', "class 'a' must have a target and a group"),
        ("classes = 3\n", "classes must be a table"),
        ("[classes\n", "must be TOML"),
    ],
)
def test_a_file_that_does_not_say_it_is_refused_by_name(
    text: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "fair.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_fair(path)
    assert str(path) in str(caught.value)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"takes a \.toml or \.json file, got 'fair\.csv'"):
        read_fair(Path("fair.csv"))
    with pytest.raises(FileNotFoundError, match=r"none\.toml"):
        read_fair(tmp_path / "none.toml")
    (tmp_path / "fair.json").write_text("[1]")
    with pytest.raises(ValueError, match="must hold a table 'classes'"):
        read_fair(tmp_path / "fair.json")


@pytest.mark.parametrize(
    ("table", "gap"),
    [
        ([[1, 3], [2, 6], [10, 30]], 0.0),
        ([[4, 0], [0, 7]], 1.0),
        ([[1, 1], [3, 1], [1, 3]], 0.5),
        ([[2, 1, 1], [1, 2, 1]], 0.25),
        ([[1, 1], [0, 0]], None),
    ],
)
def test_the_parity_gap_is_the_largest_difference_of_a_share(table: Any, gap: float | None) -> None:  # noqa: ANN401
    assert parity_gap(table) == gap
