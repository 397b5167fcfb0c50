"""Folders that are parts of one set, people or versions are never read as classes unasked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dpgen.data.formats.pictures import encode_png
from dpgen.data.sources import open_source


def pictures(root: Path, folders: list[str]) -> Path:
    for i, folder in enumerate(folders):
        for k in range(2):
            path = root / folder / f"x{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_png(np.full((4, 4, 1), 2 * i + k, np.uint8)))
    return root


@pytest.mark.parametrize(
    ("folders", "like"),
    [
        (["batch_0", "batch_1"], "parts of one set"),
        (["part1", "part2"], "parts of one set"),
        (["part_A", "part_B"], "parts of one set"),
        (["Fold0", "Fold1", "Fold2"], "parts of one set"),
        (["shard-00000-of-00002", "shard-00001-of-00002"], "parts of one set"),
        (["xrays_chunk1", "xrays_chunk2"], "parts of one set"),
        (["1st_batch", "2nd_batch"], "parts of one set"),
        (["week_12", "week_13"], "parts of one set"),
        (["batch1_ill", "batch2_ill", "batch1_well"], "parts of one set"),
        (["site_a", "site_b", "other"], "parts of one set"),
        (["100CANON", "101CANON"], "parts of one set"),
        (["train/batch_0", "train/batch_1", "test/batch_0"], "parts of one set"),
        (["2021-03", "2021-04"], "dates"),
        (["20210304", "20210411"], "dates"),
        (["2019", "2020"], "dates"),
        (["Jan", "Feb 2021"], "dates"),
        (["patient_01", "patient_02"], "people"),
        (["sub-01", "sub-02"], "people"),
        (["64x64", "128x128"], "several sizes"),
        (["png", "jpg"], "formats of files"),
        (["original", "augmented"], "versions"),
        (["labeled", "unlabeled"], "with and without labels"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else None,
)
def test_folders_that_are_no_classes_are_refused_until_it_is_said_what_they_are(
    tmp_path: Path, folders: list[str], like: str
) -> None:
    pictures(tmp_path, folders)
    with pytest.raises(ValueError, match=rf"look like .*{like}.*metadata\.csv.*--classes 1.*"):
        open_source(tmp_path)
    whole = open_source(tmp_path, classes=1, split="all")
    assert (whole.class_names, whole.classes_declared) == (("0",), True)
    assert whole.read(range(2 * len(folders)))[1].unique().tolist() == [0]
    names = tuple(sorted({folder.rpartition("/")[2] for folder in folders}))
    assert open_source(tmp_path, classes=names).class_names == names


@pytest.mark.parametrize(
    "folders",
    [
        [str(k) for k in range(10)],
        ["grade1", "grade2"],
        ["type_1", "type_2"],
        ["stage2", "stage3"],
        ["class_0", "class_1"],
        ["birads-4", "birads-5"],
        ["n01440764", "n01443537"],
        ["normal", "batch_2"],
        ["site_normal", "site_tumour"],
        ["runs", "runt", "discs", "disco"],
        ["may", "rose"],
        ["s1", "s2"],
        ["original", "forged"],
    ],
    ids="+".join,
)
def test_folders_of_real_classes_are_read_as_they_are(tmp_path: Path, folders: list[str]) -> None:
    assert open_source(pictures(tmp_path, folders)).class_names == tuple(sorted(folders))


def test_people_are_read_by_their_folders_and_a_list_of_classes_settles_the_rest(
    tmp_path: Path,
) -> None:
    pictures(tmp_path, ["patient_01", "patient_02"])
    with pytest.raises(ValueError, match="--unit folder with --max-records-per-unit"):
        open_source(tmp_path)
    (tmp_path / "dataset.json").write_text(
        '{"schema": "dpgen-dataset/1", "class_names": ["patient_01", "patient_02"]}'
    )
    assert len(open_source(tmp_path).class_names) == 2
