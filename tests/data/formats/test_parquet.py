from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from dpgen.data.formats.pictures import encode_png
from dpgen.data.sources import open_source
from dpgen.data.units import Units

pa = pytest.importorskip("pyarrow", reason="Parquet needs the extra `parquet`")
pq = pytest.importorskip("pyarrow.parquet")

FEATURES = {
    "img": {"_type": "Image"},
    "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
}


def write(
    path: Path,
    values: list[int],
    labels: list[int | None] | None,
    features: object = FEATURES,
    image: str = "img",
) -> None:
    pictures = [
        {"bytes": encode_png(np.full((4, 4, 1), value, np.uint8)), "path": None} for value in values
    ]
    columns = {
        image: pa.array(pictures, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    }
    if labels is not None:
        columns["label"] = pa.array(labels)
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)


def test_records_and_class_names_are_those_of_the_schema(tmp_path: Path) -> None:
    write(tmp_path / "train-00000-of-00002.parquet", [1, 2], [1, 0])
    write(tmp_path / "train-00001-of-00002.parquet", [3], [1])
    write(tmp_path / "test-00000-of-00001.parquet", [4], [0])
    source = open_source(tmp_path, split="train")
    pixels, labels = source.read([2, 0, 1])
    assert source.class_names == ("cat", "dog")
    assert pixels[:, 0, 0, 0].tolist() == [3, 1, 2]
    assert labels.tolist() == [1, 1, 0]
    assert open_source(tmp_path, split="test").read([0])[0].unique().tolist() == [4]


def test_files_without_metadata_have_the_classes_that_are_declared(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [1, 2], [0, 3], None, "image")
    assert open_source(tmp_path, classes=4).class_names == ("0", "1", "2", "3")
    write(tmp_path / "a.parquet", [1, 2], None, None, "image")
    assert open_source(tmp_path).class_names == ("all",)


def test_a_split_that_is_not_there_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train-0.parquet", [1], [0])
    with pytest.raises(ValueError, match="no test split, only train"):
        open_source(tmp_path, split="test")


def test_labels_outside_the_schema_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [1, 2], [0, 2])
    with pytest.raises(ValueError, match="a.parquet: labels must be in 0..1, got 2 at record 1"):
        open_source(tmp_path)


def test_missing_labels_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [1, 2], [0, None])
    with pytest.raises(ValueError, match="label, got 1 without"):
        open_source(tmp_path)


def test_a_missing_picture_is_refused_by_file_and_row(tmp_path: Path) -> None:
    data = encode_png(np.zeros((4, 4, 1), np.uint8))
    rows = [{"bytes": data, "path": "a.png"}, {"bytes": None, "path": "b.png"}]
    table = pa.table({"image": pa.array(rows)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1)
    with pytest.raises(ValueError, match="a.parquet record 1 must hold the bytes"):
        open_source(tmp_path)


def test_files_that_disagree_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [1], [0])
    write(tmp_path / "b.parquet", [1], [0], None)
    with pytest.raises(ValueError, match="b.parquet must have the label column and class names"):
        open_source(tmp_path)


def test_a_table_without_pictures_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="image column"):
        open_source(tmp_path)


def test_a_cut_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write(path, [1, 2], [0, 1])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match="a.parquet is damaged or truncated"):
        open_source(tmp_path)


def test_without_pyarrow_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.parquet", [1], [0])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ValueError, match="pip install pyarrow"):
        open_source(tmp_path)


def with_columns(path: Path, columns: dict[str, object]) -> None:
    """Three pictures in `image` with other columns."""
    write(path, [1, 2, 3], None, None, "image")
    table = pq.read_table(path)
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    pq.write_table(table, path)


@pytest.mark.parametrize(
    "name", ["labels", "target", "Class", "y", "fine_label", "class_id", "categoryId", "diagnosis"]
)
def test_a_label_column_goes_by_any_usual_name(tmp_path: Path, name: str) -> None:
    with_columns(tmp_path / "a.parquet", {"id": [7, 8, 9], name: [2, 0, 1]})
    assert open_source(tmp_path, classes=3).read(range(3))[1].tolist() == [2, 0, 1]
    with pytest.raises(ValueError, match="--classes N"):
        open_source(tmp_path)


def test_label_goes_before_other_names(tmp_path: Path) -> None:
    with_columns(tmp_path / "a.parquet", {"label_name": list("abc"), "label": [2, 0, 1]})
    assert open_source(tmp_path, classes=3).read(range(3))[1].tolist() == [2, 0, 1]


@pytest.mark.parametrize("dictionary", [False, True])
def test_text_labels_are_names_of_declared_classes(tmp_path: Path, dictionary: bool) -> None:
    values = pa.array(["eel", "cat", "eel"])
    with_columns(
        tmp_path / "a.parquet", {"labels": values.dictionary_encode() if dictionary else values}
    )
    source = open_source(tmp_path, classes=["cat", "dog", "eel"])
    assert source.read(range(3))[1].tolist() == [2, 0, 2]
    with pytest.raises(ValueError, match="got 'eel'.*not counted in private labels"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("columns", "word"),
    [
        (
            {"fine_label": [0, 1, 2], "coarse_label": [0, 0, 0]},
            "one label column, got .*fine_label.*coarse_label.*--label-column NAME",
        ),
        ({"labels": [0, 1, 2], "target": [0, 1, 2]}, "one label column"),
        ({"labels": [0.0, 1.0, 2.0]}, "whole numbers or names, got double"),
        ({"labels": [[0], [1], [2]]}, "whole numbers or names, got list"),
        ({"labels": [0.0, 1.0, 0.0]}, "got double: convert the column to int64"),
        ({"labels": [[0, 1], [1, 0], [1, 0]]}, "got list.*: a record is of one class"),
        ({"labels": [0, None, 1]}, "label, got 1 without"),
        ({"label": [0, 1, 2], "split": ["train", "test", "x"]}, "split must say.*'x' at record 2"),
        ({"label": [0, 1, 2], "split": ["test", None, "test"]}, "got None at record 1.*--split"),
        ({"label": [0, 1, 2], "split": [0, 1, 0]}, "must say train.*got 0 at record 0"),
        ({"label": [0, 1, 2], "split": [["train"]] * 3}, r"got \['train'\] at record 0"),
        ({"label": [0, 1, 2], "split": ["test"] * 3}, "has no train split, only test"),
        ({"split": ["train"] * 3, "subset": [1] * 3}, "one column of splits, got"),
    ],
)
def test_label_columns_that_do_not_fit_are_refused(
    tmp_path: Path, columns: dict[str, object], word: str
) -> None:
    with_columns(tmp_path / "a.parquet", columns)
    with pytest.raises(ValueError, match=word):
        open_source(tmp_path, split="train", classes=3)


def test_columns_that_are_passed_over_are_told(tmp_path: Path) -> None:
    with_columns(tmp_path / "a.parquet", {"breed": [0, 1, 2], "width": [4, 4, 4]})
    with pytest.warns(UserWarning, match="passed over: breed, width.*--label-column"):
        assert open_source(tmp_path).class_names == ("all",)


def test_a_named_column_holds_the_labels_whatever_the_others_are_called(tmp_path: Path) -> None:
    columns = {"fine_label": [2, 1, 0], "coarse_label": [0, 1, 1], "breed": [1, 1, 2]}
    with_columns(tmp_path / "a.parquet", columns)
    for name, values in columns.items():
        source = open_source(tmp_path, classes=3, label_column=name)
        assert source.read(range(3))[1].tolist() == values
    with pytest.raises(ValueError, match=r"label column 'race', got .*'fine_label'.*'breed'"):
        open_source(tmp_path, classes=3, label_column="race")
    kinds = {"_type": "ClassLabel", "names": ["ill", "well", "unclear"]}
    features = {"image": {"_type": "Image"}, "fine_label": kinds, "coarse_label": kinds}
    table = pq.read_table(tmp_path / "a.parquet").replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="one label column.*name it with --label-column"):
        open_source(tmp_path)
    source = open_source(tmp_path, label_column="coarse_label")
    assert source.read(range(3))[1].tolist() == [0, 1, 1]
    assert source.class_names == ("ill", "well", "unclear")


def test_a_column_tells_the_split_of_each_record(tmp_path: Path) -> None:
    columns = {"label": [2, 1, 0], "Subset": ["Training", "val", "train"], "who": ["p", "q", "r"]}
    with_columns(tmp_path / "a.parquet", columns)
    train = open_source(tmp_path, split="train", classes=3)
    assert train.read(range(2))[1].tolist() == [2, 0]
    values = open_source(tmp_path, classes=3).read(range(3))[0][:, 0, 0, 0].tolist()
    assert train.read(range(2))[0][:, 0, 0, 0].tolist() == [values[0], values[2]]
    held_out = open_source(tmp_path, split="test", classes=3, units=Units("who", 1))
    assert held_out.read([0])[1].tolist() == [1] and held_out.units == ("q",)
    with_columns(tmp_path / "b.parquet", {"label": [0, 1, 2], "who": ["p", "p", "p"]})
    with pytest.raises(ValueError, match="column of splits in every file or in none"):
        open_source(tmp_path, split="train", classes=3)
    assert len(open_source(tmp_path, classes=3)) == 6
