"""What the owner is shown is what a run would read, and nothing is left behind."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dpgen.data.formats.pictures import encode_png
from dpgen.data.inspection import inspect_images
from dpgen.data.sources import open_source


def picture(path: Path, value: int, shape: tuple[int, int, int] = (6, 6, 1)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(np.full(shape, value, np.uint8)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    for i, name in enumerate(["train/a/0", "train/a/1", "train/b/0", "test/b/0"]):
        picture(root / f"{name}.png", 50 * i)
    Image.new("L", (8, 6), 255).save(root / "train/b/1.bmp")
    (root / "README.md").write_text("text")
    (root / ".DS_Store").write_bytes(b"\0")
    return root


def test_splits_classes_shapes_and_values_are_those_that_are_read(folder: Path) -> None:
    found, _ = inspect_images(folder, size=6)
    assert found.splits == {"train": 4, "test": 1, "all": 5}
    assert (found.n_records, found.class_names, found.class_counts) == (4, ("a", "b"), (2, 2))
    assert found.shape == (1, 6, 6)
    assert found.stored == {"6x6x1": 3, "6x8x1": 1}
    assert found.files == {"PNG": 3, "BMP": 1}
    assert (found.lowest, found.highest, found.black, found.white) == (0, 255, 0.25, 0.25)
    assert found.passed_over == {
        ".DS_Store": "hidden", "README.md": "text or a table, no record of its own",
    }  # fmt: skip
    assert found.to_dict()["covered_by_a_guarantee"] is False


def test_people_are_counted_and_all_their_records_shown(tmp_path: Path) -> None:
    """Whoever asks for a bound has to know how many records people have."""
    root = tmp_path / "x"
    for i, name in enumerate(["train/a/p/0", "train/a/p/1", "train/b/p/0", "train/b/q/0"]):
        picture(root / f"{name}.png", 50 * i)
    picture(root / "test/b/r/0.png", 7)
    found, _ = inspect_images(root, unit="folder")
    assert found.unit_counts == {1: 1, 3: 1} and found.n_records == 4
    assert found.splits == {"train": 4, "test": 1, "all": 5}
    assert found.class_counts == (2, 2) and found.passed_over == {}
    assert not (tmp_path / "home").exists()


def test_a_split_that_cannot_be_read_is_told_with_the_reason(tmp_path: Path) -> None:
    np.savez(tmp_path / "train-0.npz", images=np.zeros((3, 4, 4), np.uint8))
    found, _ = inspect_images(tmp_path)
    assert (found.splits["train"], found.splits["all"]) == (3, 3)
    assert "no test split" in str(found.splits["test"])
    assert found.files == {"npz": 1}


@pytest.mark.parametrize(
    ("names", "splits", "note"),
    [
        (["train", "val", "test"], {"train": 3, "test": 1, "validation": 2, "all": 6}, "neither"),
        (["train", "val"], {"train": 3, "test": 2, "validation": 2, "all": 5}, "serves as test"),
        (["train", "test"], {"train": 3, "test": 1, "all": 4}, None),
        (["set"], {"train": 1, "test": 1, "all": 1}, None),
    ],
    ids=["all three", "no test", "no validation", "no splits"],
)
@pytest.mark.parametrize("inside", [True, False], ids=["arrays", "files"])
def test_a_validation_split_is_counted_and_its_use_is_told(
    tmp_path: Path, names: list[str], splits: dict[str, int], note: str | None, inside: bool
) -> None:
    n_records = {"train": 3, "val": 2, "test": 1, "set": 1}
    arrays = {name: np.full((n_records[name], 4, 4), 9, np.uint8) for name in names}
    if inside:
        keys = {"x" if name == "set" else f"x_{name}": x for name, x in arrays.items()}
        np.savez(tmp_path / "a.npz", **keys)
    else:
        for name, array in arrays.items():
            np.savez(tmp_path / f"{name}.npz", images=array)
    found, _ = inspect_images(tmp_path)
    assert found.splits == splits
    told = [one for one in found.notes if "validation split" in one]
    assert len(told) == (note is not None) and all(str(note) in one for one in told)
    if "validation" in splits:
        assert len(open_source(tmp_path, split="validation")) == 2


def test_what_a_run_would_refuse_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="1.bmp must be 6x6 like the first record.*--size"):
        inspect_images(folder)


def test_the_picture_has_a_row_for_each_class(folder: Path) -> None:
    _, shown = inspect_images(folder, size=6)
    assert shown.shape[2] == 1
    rows = np.array_split(shown[..., 0], 2)
    assert {0, 50} <= set(np.unique(rows[0])) and {100} <= set(np.unique(rows[1]))
    assert 100 not in rows[0]


def test_a_picture_of_many_classes_or_large_records_stays_small(tmp_path: Path) -> None:
    for i in range(30):
        picture(tmp_path / f"{i:02d}/0.png", i, (300, 300, 1))
    _, shown = inspect_images(tmp_path)
    assert max(shown.shape) <= 4096 + 100


def test_nothing_is_written_anywhere(folder: Path, home: Path) -> None:
    def everything() -> dict[str, float]:
        found = [Path(place) / n for place, _, names in os.walk(folder.parent) for n in names]
        return {str(path): path.stat().st_mtime for path in found}

    before = everything()
    inspect_images(folder, size=6)
    assert everything() == before and not home.exists()
