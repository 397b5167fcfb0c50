from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dpgen.data.formats.pictures import encode_png
from tests.commands import dpgen


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(6):
        path = tmp_path / "set" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(np.full((6, 6, 3), 40 * i, np.uint8)))
    return tmp_path / "set"


def test_the_table_says_what_would_be_read_and_what_covers_it(folder: Path) -> None:
    (folder / "[bold]\x1b[2J.txt").write_text("a name that styles and clears the screen")
    found = dpgen("inspect", folder)
    assert found.exit_code == 0
    for words in (
        "6 PNG",
        "RGB, 6x6",
        "a (3), b (3)",
        "0 to 200 of 0..255",
        "6 of split train",
        "the same records for train, test and all",
        "no guarantee covers it",
    ):
        assert words in " ".join(found.stdout.split())
    assert "[bold]\\x1b[2J.txt" in found.stdout and "\x1b" not in found.stdout


def test_json_holds_the_same(folder: Path) -> None:
    told = json.loads(dpgen("inspect", folder, "--json", "--channels", 1).stdout)
    assert told["shape"] == [1, 6, 6] and told["class_counts"] == [3, 3]
    assert told["covered_by_a_guarantee"] is False


def test_a_picture_is_written_where_it_is_asked_for_and_only_its_owner_reads_it(
    folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "few.png"
    assert dpgen("inspect", folder, "--picture", file).exit_code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert np.isin([0, 80, 160], np.asarray(Image.open(file))).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "no data at"),
        (["digits", "--value-range", "0,1"], "drop --value-range"),
        (["digits", "--picture", "few.jpg"], "--picture must end in .png"),
        (["digits", "--picture", "no/such/few.png"], "there is no folder"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line(arguments: list[str], words: str) -> None:
    found = dpgen("inspect", *arguments)
    assert found.exit_code == 2 and words in found.stderr and found.stderr.count("\n") == 1


def test_the_facts_file_names_the_classes(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((4, 6, 6), np.uint8), labels=[0, 1, 1, 0])
    facts = tmp_path / "facts.toml"
    facts.write_text("shape = [1, 6, 6]\nclass_names = ['ill', 'well']\nn_records = 4\n")
    assert "ill (2), well (2)" in dpgen("inspect", tmp_path / "a.npz", "--facts", facts).stdout


def test_several_refused_files_have_a_line_each_and_no_name_makes_one(folder: Path) -> None:
    for name in ("7.png", "8\nnext: dpgen.png"):
        (folder / "a" / name).write_bytes(b"no picture")
    found = dpgen("inspect", folder)
    head, *lines = found.stderr.splitlines()
    assert found.exit_code == 2 and head == "dpgen: 2 files or records are refused:"
    assert [line.split(" must be")[0] for line in lines] == [
        f"  {folder}/a/7.png", f"  {folder}/a/8\\nnext: dpgen.png",
    ]  # fmt: skip
