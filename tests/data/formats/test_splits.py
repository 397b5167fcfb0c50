from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from dpgen.data.formats.pictures import encode_png
from dpgen.data.formats.splits import AMBIGUOUS, glued_splits, split_of
from dpgen.data.sources import open_source

RNG = np.random.default_rng(5)


def png(value: int = 0) -> bytes:
    return encode_png(np.full((6, 6, 1), value, np.uint8))


def pictures(root: Path, names: list[str]) -> Path:
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(i))
    return root


def npz(path: Path, n: int) -> None:
    np.savez(path, images=RNG.integers(0, 256, (n, 6, 6), np.uint8))


def shard(path: Path, names: list[str]) -> None:
    with tarfile.open(path, "w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(png())
            archive.addfile(member, io.BytesIO(png()))


def read(path: Path, split: str) -> list[int]:
    """The values of the pictures that are read."""
    source = open_source(path, split=split)
    return source.read(range(len(source)))[0][:, 0, 0, 0].tolist()


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00002.parquet", "train"),
        ("xrays-train-000000.tar", "train"),
        ("xrays_training.npz", "train"),
        ("Train.npz", "train"),
        ("TRAIN_SET.npz", "train"),
        ("XRaysTrain.npz", "train"),
        ("trainA", "train"),
        ("train2017", "train"),
        ("trainset.npz", "train"),
        ("VOCtrainval.tar", ""),
        ("voc-trainval.tar", "train"),
        ("emnist-letters-test-images-idx3-ubyte.gz", "test"),
        ("t10k-images-idx3-ubyte", "test"),
        ("mnist.T10K.npz", "test"),
        ("testing.npz", "test"),
        ("eval_0.tar", "test"),
        ("ILSVRC2012_val_00000001.JPEG", "validation"),
        ("valid.npz", "validation"),
        ("dev-0.npz", "validation"),
        ("Validation.parquet", "validation"),
        ("constrained.npz", ""),
        ("strainer_0.png", ""),
        ("contest.npz", ""),
        ("trainer.npz", ""),
        ("latest.npz", ""),
        ("value.npz", ""),
        ("éval.npz", ""),
        ("e\u0301val.npz", ""),
        ("x10k.npz", ""),
        ("images-00000.npz", ""),
        ("train-test-mix.npz", AMBIGUOUS),
        ("train_val.npz", AMBIGUOUS),
    ],
)
def test_a_split_is_a_whole_word_anywhere_in_a_name(name: str, split: str) -> None:
    assert split_of(name) == split


@pytest.mark.parametrize(
    ("train", "held_out"),
    [
        ("xrays_train.npz", "xrays_test.npz"),
        ("Train.npz", "Test.npz"),
        ("training.npz", "validation.npz"),
        ("a.train.npz", "a.dev.npz"),
    ],
)
def test_train_and_held_out_archives_are_never_read_together(
    tmp_path: Path, train: str, held_out: str
) -> None:
    npz(tmp_path / train, 5)
    npz(tmp_path / held_out, 2)
    assert [len(read(tmp_path, split)) for split in ("train", "test", "all")] == [5, 2, 7]


def test_validation_serves_as_test_only_where_there_is_none(tmp_path: Path) -> None:
    for n, name in enumerate(("train", "val", "test"), 1):
        npz(tmp_path / f"x-{name}.npz", n)
    assert [len(read(tmp_path, split)) for split in ("train", "test", "all")] == [1, 3, 6]


@pytest.mark.parametrize(
    ("names", "word"),
    [
        (["train.npz", "more.npz"], "more.npz is of no split, while train.npz is of train"),
        (["train.npz", "train-test-mix.npz"], "mix.npz has words of two splits"),
        (["val.npz", "other.npz"], "other.npz is of no split"),
    ],
)
def test_what_is_of_no_clear_split_is_refused_by_name_beside_a_split(
    tmp_path: Path, names: list[str], word: str
) -> None:
    for name in names:
        npz(tmp_path / name, 1)
    for split in ("train", "test"):
        with pytest.raises(ValueError, match=f"{word}.*--split all"):
            read(tmp_path, split)
    assert len(read(tmp_path, "all")) == 2


@pytest.mark.parametrize(
    ("names", "train", "test", "classes"),
    [
        (["train/0.png", "train/1.png", "val/2.png"], [0, 1], [2], ("all",)),
        (["Train/0.png", "Test/1.png"], [0], [1], ("all",)),
        (["training/a/0.png", "training/b/1.png", "testing/b/2.png"], [0, 1], [2], ("a", "b")),
        (["train2017/0.png", "val2017/1.png"], [0], [1], ("all",)),
        (["xrays_train/0.png", "xrays_test/1.png"], [0], [1], ("all",)),
        (["train_images/0.png", "test_images/1.png"], [0], [1], ("all",)),
        (["train_1/0.png", "train_2/1.png", "test/2.png"], [0, 1], [2], ("all",)),
        (["train_0.png", "x-train-1.png", "test_0.png"], [0, 1], [2], ("all",)),
        (["a/train_0.png", "b/train_1.png", "b/val_0.png"], [0, 1], [2], ("a", "b")),
        (["train/a/0.png", "train/a/test_1.png", "val/a/2.png"], [0, 1], [2], ("a",)),
    ],
)
def test_folders_and_names_of_pictures_tell_the_splits(
    tmp_path: Path, names: list[str], train: list[int], test: list[int], classes: tuple[str, ...]
) -> None:
    pictures(tmp_path, names)
    assert open_source(tmp_path, split="train").class_names == classes
    assert sorted(read(tmp_path, "train")) == train
    assert sorted(read(tmp_path, "test")) == test
    assert sorted(read(tmp_path, "all")) == sorted(train + test)


@pytest.mark.parametrize(
    "names",
    [
        ["test_tube/0.png", "beaker/1.png"],
        ["test_tube/test_tube_0.png", "beaker/1.png"],
        ["train_station/0.png", "test_tube/1.png"],
        ["strainer/0.png", "trainers/1.png", "contest/2.png"],
    ],
)
def test_folders_that_merely_hold_such_a_word_are_classes(tmp_path: Path, names: list[str]) -> None:
    pictures(tmp_path, names)
    for split in ("train", "test", "all"):
        assert len(read(tmp_path, split)) == len(names)
    folders = {name.split("/")[0] for name in names}
    assert open_source(tmp_path).class_names == tuple(sorted(folders))


@pytest.mark.parametrize(
    ("names", "word"),
    [
        (["train/0.png", "bus/1.png"], "train/ may be a split or a class, beside bus/"),
        (["val/0.png", "bus/1.png"], "val/ may be a split or a class, beside bus/"),
        (["train-test-mix/0.png", "bus/1.png"], "train-test-mix/ may be a split or a class"),
        (["test_0.png", "beaker.png"], "beaker.png is of no split, while test_0.png is of test"),
    ],
)
def test_what_may_be_a_split_is_refused_unless_all_is_read(
    tmp_path: Path, names: list[str], word: str
) -> None:
    pictures(tmp_path, names)
    for split in ("train", "test"):
        with pytest.raises(ValueError, match=f"{word}.*--split all"):
            read(tmp_path, split)
    assert read(tmp_path, "all") == [1, 0] or read(tmp_path, "all") == [0, 1]


@pytest.mark.parametrize(
    ("names", "word"),
    [
        (["trainA/0.png", "testA/1.png", "trainB/2.png", "testB/3.png"], "look like splits"),
        (["wrapped/train/0.png", "wrapped/test/1.png"], "point at .*wrapped"),
        (["train/a/0.png", "test/1.png"], "1.png must lie in a folder of its class"),
        (["train/0.png", "test/1.png", "loose.png"], "not hold data beside .*got loose.png"),
    ],
)
def test_layouts_that_do_not_fit_are_refused_with_their_names(
    tmp_path: Path, names: list[str], word: str
) -> None:
    pictures(tmp_path, names)
    with pytest.raises(ValueError, match=word):
        read(tmp_path, "test")


def test_a_class_called_like_a_split_stays_one_where_the_set_lists_its_classes(
    tmp_path: Path,
) -> None:
    pictures(tmp_path, ["bus/0.png", "train/1.png"])
    listed = '{"schema": "dpgen-dataset/1", "class_names": ["bus", "train"]}'
    (tmp_path / "dataset.json").write_text(listed)
    assert read(tmp_path, "train") == [0, 1]


def test_split_folders_may_hold_shards_that_are_not_named_for_another(tmp_path: Path) -> None:
    for name, n in (("Training", 3), ("val", 1)):
        (tmp_path / name).mkdir()
        npz(tmp_path / name / "a.npz", n)
    assert [len(read(tmp_path, split)) for split in ("train", "test")] == [3, 1]
    npz(tmp_path / "Training/test.npz", 1)
    with pytest.raises(ValueError, match="test.npz is named for test, and its folder for train"):
        read(tmp_path, "train")


@pytest.mark.parametrize(
    "names",
    [
        ["train/0.png", "train/1.png", "test/0.png"],
        ["x/train/a/0.png", "x/train/a/1.png", "x/val/a/0.png"],
        ["train_0.png", "train_1.png", "test_0.png"],
    ],
)
def test_a_shard_may_hold_several_splits(tmp_path: Path, names: list[str]) -> None:
    shard(tmp_path / "a.tar", names)
    assert [len(read(tmp_path, split)) for split in ("train", "test", "all")] == [2, 1, 3]


def test_a_record_of_no_split_in_a_shard_is_refused_beside_others(tmp_path: Path) -> None:
    shard(tmp_path / "a.tar", ["train/0.png", "1.png"])
    with pytest.raises(ValueError, match=r"a.tar.1 is of no split, while 0 is of train"):
        read(tmp_path, "train")


@pytest.mark.parametrize(
    "names",
    [
        ["xraytrain/0.png", "xraytrain/1.png", "xraytest/0.png"],
        ["Xraytraining/a/0.png", "Xraytraining/a/1.png", "Xray_test/a/0.png"],
        ["trainxray/0.png", "trainxray/1.png", "valxray/0.png"],
        ["imgtrainset/0.png", "imgtrainset/1.png", "imgtestset/0.png"],
        ["imgtrain0.png", "imgtrain1.png", "imgtest0.png"],
        ["a/xtrain0.png", "a/xtrain1.png", "a/xtest0.png"],
    ],
    ids=lambda names: names[0],
)
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "tar"])
def test_a_split_glued_to_another_word_is_seen_where_another_one_is_glued_to_the_same(
    tmp_path: Path, names: list[str], packed: bool
) -> None:
    if packed:
        shard(tmp_path / "a.tar", names)
    else:
        pictures(tmp_path, names)
    assert [len(read(tmp_path, split)) for split in ("train", "test", "all")] == [2, 1, 3]


@pytest.mark.parametrize(
    ("train", "held_out"), [("xraystrain", "xraystest"), ("imgtrain_0", "imgvalid_0")]
)
def test_archives_of_glued_splits_are_never_read_together(
    tmp_path: Path, train: str, held_out: str
) -> None:
    npz(tmp_path / f"{train}.npz", 5)
    npz(tmp_path / f"{held_out}.npz", 2)
    assert [len(read(tmp_path, split)) for split in ("train", "test", "all")] == [5, 2, 7]


@pytest.mark.parametrize(
    "names",
    [
        ["restrained", "latest", "contest"],
        ["trainer", "tester"],
        ["xraytrain", "ctest"],
        ["interval", "carnival", "festival"],
        ["train", "test"],  # told by whole words already
        [],
    ],
    ids="+".join,
)
def test_words_that_merely_end_or_begin_like_a_split_are_none(names: list[str]) -> None:
    assert glued_splits(names) == {}


@pytest.mark.parametrize("name", ["docs/0.png", "xraylatest/0.png"])
def test_another_folder_beside_glued_splits_is_refused(tmp_path: Path, name: str) -> None:
    pictures(tmp_path, ["xraytrain/0.png", "xraytest/0.png", name])
    with pytest.raises(ValueError, match="xraytrain/ and xraytest/ look like splits"):
        read(tmp_path, "train")
