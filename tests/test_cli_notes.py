"""On the command line a warning is one line of its own, not Python's file, line and source."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.commands import dpgen

# Delta is refused as soon as the number of records is known: after the data were read.
REFUSED_ONCE_READ = ("train", "dpdm", "--epsilon", 1, "--delta", 0.9, "-q")


def test_a_warning_about_the_data_is_one_clean_line_on_standard_error(tmp_path: Path) -> None:
    path = tmp_path / "dim.npz"
    np.savez(path, images=np.ones((4, 8, 8), np.uint8))
    result = dpgen(*REFUSED_ONCE_READ, "--data", path, "--out", tmp_path / "run")
    notes = [line for line in result.stderr.splitlines() if line.startswith("dpgen: note: ")]
    assert result.exit_code == 2 and len(notes) == 1
    assert notes[0].startswith(f"dpgen: note: {path}: images: the pixels lie in 1..1")
    assert "UserWarning" not in result.stderr and ".py" not in result.stderr
    assert result.stdout == ""


def test_a_command_that_opens_its_data_more_than_once_says_a_warning_once(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "train"
    for name, grey in (("a", 0), ("b", 255)):
        (folder / name).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (64, 64), grey).save(folder / name / f"{i}.png")
    rows = [f"{name}/{i}.png,{40 + i}" for name in "ab" for i in range(3)]
    (folder / "metadata.csv").write_text("\n".join(["file_name,age", *rows]))
    result = dpgen("plan", "--data", tmp_path / "data", "--epsilon", 1, "--delta", 0.01)
    notes = [line for line in result.stderr.splitlines() if line.startswith("dpgen: note: ")]
    assert len(notes) == 1 and "passed over: age" in notes[0]


def test_a_name_in_a_warning_cannot_move_the_cursor(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[2Jb.npz"
    np.savez(path, images=np.ones((4, 8, 8), np.uint8))
    result = dpgen(*REFUSED_ONCE_READ, "--data", path, "--out", tmp_path / "run")
    assert "\x1b" not in result.stderr and "\\x1b[2Jb.npz" in result.stderr


def test_a_warning_in_python_is_left_as_python_shows_it() -> None:
    before = warnings.showwarning
    dpgen("methods")
    assert warnings.showwarning is before
    with pytest.warns(UserWarning, match="plain"):
        warnings.warn("plain", stacklevel=1)


def test_a_warning_of_another_package_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def table(*_: object) -> str:
        warnings.warn("of elsewhere", stacklevel=1)
        return "table"

    monkeypatch.setattr("dpgen.commands.ledger_report.ledger_table", table)
    with pytest.warns(UserWarning, match="of elsewhere"):
        assert "note:" not in dpgen("ledger").stderr
