"""Of several files that are refused one error names all; what is wrong with a whole set is told at
once.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dpgen.data import copies
from dpgen.data.formats.pictures import encode_png
from dpgen.data.formats.records import Records
from dpgen.data.formats.refusals import MOST_NAMED, FilesRefused, SetRefused
from dpgen.data.sources import RecordSource, open_source

PICTURE = encode_png(np.full((6, 6, 1), 9, np.uint8))


def folder_of(root: Path, n_good: int, n_cut: int, place: str = "a") -> Path:
    (root / place).mkdir(parents=True)
    for i in range(n_good):
        (root / place / f"good{i}.png").write_bytes(PICTURE)
    for i in range(n_cut):
        (root / place / f"cut{i:02d}.png").write_bytes(PICTURE[:-20])
    return root


def refusal(location: Path) -> list[str]:
    """The lines of the error about several files."""
    with pytest.raises(FilesRefused) as error:
        open_source(location)
    return str(error.value).split("\n")


def test_five_damaged_pictures_are_named_in_one_error(tmp_path: Path) -> None:
    head, *lines = refusal(folder_of(tmp_path / "set", 2, 5))
    assert head == "5 files or records are refused:"
    found = zip(lines, range(5), strict=True)
    assert all(f"cut{i:02d}.png is damaged or truncated PNG" in line for line, i in found)


def test_ten_are_named_and_the_others_counted(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", 1, MOST_NAMED + 3)
    (folder / "a" / "good0.png").rename(folder / "a" / "a.png")  # it is read first
    head, *lines, last = refusal(folder)
    assert (head, last) == ("13 files or records are refused:", "  and 3 more")
    assert len(lines) == MOST_NAMED


def test_where_nothing_is_read_the_rest_is_not_looked_at() -> None:
    asked = []

    def refused(i: int) -> np.ndarray:
        asked.append(i)
        raise ValueError(f"record {i} is refused")

    labels = np.zeros(100, np.int64)
    with pytest.raises(FilesRefused, match="^the first 10 files or records are all refused:"):
        RecordSource(Records("test", labels, ("all",), refused, str), None, None)
    assert asked == list(range(MOST_NAMED))


def test_one_damaged_picture_is_told_as_ever(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^\S+cut00.png is damaged") as error:
        open_source(folder_of(tmp_path / "set", 2, 1))
    assert not isinstance(error.value, FilesRefused)


def test_pictures_of_two_sizes_are_an_error_at_once(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", 3, 0)
    for name in ("good1", "good2"):
        (folder / "a" / f"{name}.png").write_bytes(encode_png(np.zeros((8, 8, 1), np.uint8)))
    with pytest.raises(ValueError, match=r"good1.png must be 6x6.*--size$"):
        open_source(folder)
    for i in range(2):  # and after those that were refused before
        (folder / "a" / f"cut{i}.png").write_bytes(PICTURE[:-20])
    head, *lines = refusal(folder)
    assert head.startswith("3 files") and "good1.png must be 6x6" in lines[-1]


def test_a_window_that_is_missing_is_told_once(tmp_path: Path) -> None:
    for i in range(3):
        Image.new("I;16", (6, 6), 900).save(tmp_path / f"{i}.png")
    with pytest.raises(SetRefused, match="^[^\n]*0.png has 16 bits[^\n]*--value-range LOW,HIGH$"):
        open_source(tmp_path)


def test_all_files_of_another_format_in_a_flat_folder_are_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 2, 0, "set") / "set"
    for name in ("1.heic", "2.pdf", "3.nii.gz"):
        (folder / name).write_bytes(b"x")
    lines = refusal(folder)
    assert lines[0].startswith("3 files") and sorted(line.split()[0] for line in lines[1:]) == [
        str(folder / name) for name in ("1.heic", "2.pdf", "3.nii.gz")
    ]


def test_members_of_an_archive_are_named_by_it(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "_COPIES", {})
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("good.png", "a.heic", "b.heic"):
            archive.writestr(name, PICTURE)
    lines = refusal(tmp_path / "x.zip")
    assert [Path(line.split()[0]).name for line in lines[1:]] == ["a.heic", "b.heic"]
    assert all("x.zip/" in line and str(home) not in line for line in lines[1:])
