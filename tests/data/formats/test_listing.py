from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dpgen.data.formats.pictures import encode_png
from dpgen.data.sources import open_source


def picture(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(np.full((6, 6, 1), value, np.uint8)))


def jsonl(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


NAMES = ["0.png", "b/1.png", "c/2.png"]
LISTS = {
    "metadata.csv": "file_name,label\n0.png,2\nb/1.png,0\nc/2.png,1\n",
    "metadata.jsonl": jsonl(
        [{"file_name": name, "label": (i + 2) % 3} for i, name in enumerate(NAMES)]
    ),
    "dataset.json": json.dumps({"labels": [[n, (i + 2) % 3] for i, n in enumerate(NAMES)]}),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for i, name in enumerate(NAMES):
        picture(tmp_path / name, i)
    return tmp_path


@pytest.mark.parametrize("name", LISTS)
def test_labels_stand_in_a_list_beside_the_pictures_and_folders_mean_nothing(
    root: Path, name: str
) -> None:
    (root / name).write_text(LISTS[name])
    with pytest.raises(ValueError, match="--classes N"):
        open_source(root)
    source = open_source(root, split="train", classes=3)
    pixels, labels = source.read(range(3))
    values = pixels[:, 0, 0, 0].tolist()
    assert dict(zip(values, labels.tolist(), strict=True)) == {0: 2, 1: 0, 2: 1}
    assert source.class_names == ("0", "1", "2") and source.classes_declared


def test_text_in_a_list_is_the_name_of_a_declared_class(root: Path) -> None:
    (root / "metadata.csv").write_text(
        '\ufefffile_name,caption,Class\r\n0.png,"a, b",eel\r\nb/1.png,x,cat\r\nc/2.png,y,cat\r\n'
    )
    source = open_source(root, classes=["cat", "dog", "eel"])
    assert sorted(source.read(range(3))[1].tolist()) == [0, 0, 2]
    with pytest.raises(ValueError, match="got 'eel'.*--classes NAME,NAME"):
        open_source(root)
    with pytest.raises(ValueError, match="one of the classes cat, dog, got 'eel'"):
        open_source(root, classes=["cat", "dog"])


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("metadata.csv", "file_name,label\n0.png,1\nb/1.png,0\n", "does not list c/2.png"),
        ("metadata.csv", LISTS["metadata.csv"] + "9.png,1\n", "lists '9.png', which is not there"),
        ("metadata.csv", LISTS["metadata.csv"] + "0.png,1\n", "lists '0.png' twice"),
        ("metadata.csv", LISTS["metadata.csv"] + "9.png\n", "2 values in each row"),
        ("metadata.csv", "file_name,label\n0.png,\n", "a whole number or a name as label, got ''"),
        ("metadata.csv", "key,label\n0,1\n", "a column file_name"),
        ("metadata.csv", "file_name,class,target\n0.png,1,2\n", "one label column.*class.*target"),
        ("metadata.csv", "file_name,label,label\n0.png,1,2\n", "name each column once"),
        ("metadata.csv", "file_name,label\n", "got no rows"),
        ("metadata.csv", 'file_name,label\n"0.png,1\n', "must be CSV"),
        ("metadata.jsonl", '{"file_name": "0.png", "label": 1.5}\n', "got 1.5"),
        ("metadata.jsonl", '{"file_name": "0.png", "label": 0.5}\n', "got 0.5"),
        ("metadata.csv", "file_name,label\n0.png, 1\n", "got ' 1': take the blanks out"),
        ("metadata.jsonl", '{"file_name": "0.png", "label": 1}\n[]\n', "line 2 must be an object"),
        ("metadata.jsonl", "{\n", "line 1 must be JSON"),
        ("dataset.json", '{"labels": [["0.png", 1.5]]}', "a whole number or a name, got 1.5"),
        ("dataset.json", '{"labels": [["0.png", [0, 1]]]}', r"got \[0, 1\]"),
        ("dataset.json", '{"labels": ["0.png"]}', r"a list of \[path, class\], got '0.png'"),
        ("dataset.json", '{"labels": null}', "rename it"),
        ("dataset.json", '{"images": []}', "dpgen-dataset/1.*rename it"),
        ("labels.csv", "x,y\n", "labels.csv lies beside pictures.*name it metadata.csv"),
        ("train.tsv", "x,y\n", "train.tsv lies beside pictures"),
        ("labels.txt", "0\n", "labels.txt lies beside pictures"),
        ("annotations.json", "{}", "annotations.json lies beside pictures"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(root: Path, name: str, text: str, word: str) -> None:
    if name not in LISTS or "images" in text:
        (root / "0.png").unlink()
    (root / name).write_text(text)
    with pytest.raises(ValueError, match=word):
        open_source(root, classes=3)


def test_two_lists_are_refused(root: Path) -> None:
    for name, text in LISTS.items():
        (root / name).write_text(text)
    with pytest.raises(ValueError, match="one list of labels, got metadata.csv, meta"):
        open_source(root, classes=3)


def test_a_list_without_labels_leaves_the_folders_to_be_classes(tmp_path: Path) -> None:
    picture(tmp_path / "a/0.png", 0)
    picture(tmp_path / "b/0.png", 1)
    (tmp_path / "metadata.csv").write_text("file_name,text\na/0.png,x\nb/0.png,y\n")
    assert open_source(tmp_path).class_names == ("a", "b")


def test_folders_that_contradict_the_list_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "cat/0.png", 0)
    picture(tmp_path / "dog/0.png", 1)
    (tmp_path / "metadata.csv").write_text("file_name,label\ncat/0.png,dog\ndog/0.png,cat\n")
    with pytest.raises(ValueError, match="cat/0.png is of class 'dog', and its folder says 'cat'"):
        open_source(tmp_path, classes=["cat", "dog"])


@pytest.mark.parametrize("column", ["split", "Subset"])
def test_a_column_tells_the_splits(root: Path, column: str) -> None:
    rows = f"file_name,label,{column}\n0.png,0,train\nb/1.png,1,Training\nc/2.png,0,VAL\n"
    (root / "metadata.csv").write_text(rows)
    assert len(open_source(root, split="train", classes=2)) == 2
    assert open_source(root, split="test", classes=2).read([0])[0].unique().tolist() == [2]
    (root / "metadata.csv").write_text(rows.replace("VAL", "3"))
    with pytest.raises(ValueError, match="train, validation or test, got '3'"):
        open_source(root, split="train", classes=2)


@pytest.mark.parametrize("above", [False, True])
def test_a_list_lies_inside_the_split_folders_or_above_them(tmp_path: Path, above: bool) -> None:
    rows = []
    for i, split in enumerate(("train", "test")):
        picture(tmp_path / split / "0.png", i)
        rows.append(f"{split + '/' if above else ''}0.png,{i}\n")
    if above:
        (tmp_path / "metadata.csv").write_text("file_name,label\n" + "".join(rows))
    else:
        for split, row in zip(("train", "test"), rows, strict=True):
            (tmp_path / split / "metadata.csv").write_text("file_name,label\n" + row)
    for i, split in enumerate(("train", "test")):
        pixels, labels = open_source(tmp_path, split=split, classes=2).read([0])
        assert (pixels.unique().tolist(), labels.tolist()) == ([i], [i])


@pytest.mark.parametrize(
    ("names", "refused"),
    [
        (["00000/img00000000.png", "00001/img00000001.png"], True),
        (["000/0.png", "001/1.png", "002/2.png"], True),
        (["00000/00000_00000.png", "00001/00000_00000.png"], False),
        (["0/0.png", "1/1.png"], False),
        (["n0001/0.png", "n0002/1.png"], False),
    ],
)
def test_buckets_of_a_thousand_pictures_are_not_taken_for_classes(
    tmp_path: Path, names: list[str], refused: bool
) -> None:
    for i, name in enumerate(names):
        picture(tmp_path / name, i)
    if not refused:
        assert len(open_source(tmp_path).class_names) == len(names)
        return
    with pytest.raises(ValueError, match="parts of one set.*dataset.json"):
        open_source(tmp_path)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_named_column_of_the_list_holds_the_labels(root: Path, suffix: str) -> None:
    rows = [
        {"file_name": name, "dx": k % 2, "target": 1, "label": 0} for k, name in enumerate(NAMES)
    ]
    text = jsonl(rows)
    if suffix == "csv":
        text = "\n".join(",".join(map(str, row.values())) for row in rows)
        text = f"{','.join(rows[0])}\n{text}\n"
    (root / f"metadata.{suffix}").write_text(text)
    source = open_source(root, classes=2, label_column="dx")
    assert source.read(range(3))[1].tolist() == [0, 1, 0]
    assert open_source(root, classes=2).read(range(3))[1].tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match=r"label column 'dy', got \['dx', 'target', 'label'\]"):
        open_source(root, classes=2, label_column="dy")
    with pytest.raises(ValueError, match="label column 'file_name', got"):
        open_source(root, classes=2, label_column="file_name")


def test_two_columns_that_fit_are_refused_with_the_option_that_names_one(root: Path) -> None:
    (root / "metadata.csv").write_text("file_name,target,category\n0.png,1,2\nb/1.png,1,2\n")
    with pytest.raises(ValueError, match="one label column, got .*--label-column NAME"):
        open_source(root, classes=3)


def test_columns_of_a_list_that_are_passed_over_are_told(root: Path) -> None:
    (root / "metadata.csv").write_text("file_name,dx\n0.png,1\nb/1.png,1\nc/2.png,0\n")
    (root / "0.png").rename(root / "b" / "0.png")
    with pytest.warns(UserWarning, match="passed over: dx.*--label-column"):
        assert open_source(root).class_names == ("b", "c")


def test_a_label_column_needs_columns(root: Path) -> None:
    (root / "0.png").unlink()
    with pytest.raises(ValueError, match=r"--label-column dx names a column of a metadata\.csv"):
        open_source(root, label_column="dx")
    (root / "dataset.json").write_text(json.dumps({"labels": [[n, 0] for n in NAMES[1:]]}))
    with pytest.raises(ValueError, match=r"one label column 'dx', got \['labels'\]"):
        open_source(root, classes=1, label_column="dx")
    assert len(open_source(root, classes=1, label_column="labels")) == 2
    np.savez(root / "a.npz", images=np.zeros((3, 4, 4), np.uint8), labels=np.arange(3))
    with pytest.raises(ValueError, match="got npz: leave --label-column dx out"):
        open_source(root / "a.npz", classes=3, label_column="dx")
    with pytest.raises(ValueError, match="leave --label-column dx out"):
        open_source("digits", label_column="dx")
