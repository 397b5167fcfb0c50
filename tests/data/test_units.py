"""At most so many records of a person are used, and another person changes none of them."""

from __future__ import annotations

import io
import json
import tarfile
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dpgen.data.formats.pictures import encode_png
from dpgen.data.formats.records import Records, array_records
from dpgen.data.identity import identify
from dpgen.data.sources import open_source
from dpgen.data.units import Units, at_most
from dpgen.images.images import Images, to_float

KEY = bytes(range(32))
PEOPLE = ["ann"] * 7 + ["bob"] * 2 + ["cat"] * 5 + ["dan"]
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (15, 4, 4, 1), dtype=np.uint8)
PIXELS[1] = PIXELS[0]  # two records of ann are the same
LABELS = np.arange(15) % 2


def some(positions: Sequence[int]) -> Records:
    rows = list(positions)
    records = array_records("test", PIXELS[rows], LABELS[rows], ("a", "b"), "it")
    return Records(**{**vars(records), "units": tuple(PEOPLE[i] for i in rows)})


def used(positions: Sequence[int], most: int, key: bytes = KEY) -> Counter[tuple[str, bytes, int]]:
    """What is kept of these records, as a multiset."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = at_most(some(positions), most, key)
    assert kept.units is not None
    return Counter(
        (unit, kept.decode_fn(i).tobytes(), int(kept.labels[i]))
        for i, unit in enumerate(kept.units)
    )


def people(found: Counter[tuple[str, bytes, int]]) -> Counter[str]:
    return Counter(one[0] for one in found.elements())


@pytest.mark.parametrize("most", [1, 2, 3, 6, 7, 99])
def test_no_unit_has_more_records_than_the_bound_and_none_has_fewer_than_it_may(most: int) -> None:
    whole = Counter(PEOPLE)
    assert people(used(range(15), most)) == {who: min(n, most) for who, n in whole.items()}


@pytest.mark.parametrize("most", [1, 3, 6])
@pytest.mark.parametrize("who", ["ann", "bob", "cat", "dan"])
def test_a_person_more_or_less_changes_their_own_records_alone(who: str, most: int) -> None:
    everyone = used(range(15), most)
    without = used([i for i in range(15) if PEOPLE[i] != who], most)
    assert not without - everyone
    changed = everyone - without
    assert people(changed) == {who: min(PEOPLE.count(who), most)}


def test_the_order_of_the_records_changes_nothing() -> None:
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(15).tolist()
        assert used(order, 3) == used(range(15), 3)


def test_one_more_record_of_a_person_changes_one_and_no_other_person() -> None:
    for own in range(15):
        others = [i for i in range(15) if i != own]
        gone, come = used(others, 3) - used(range(15), 3), used(range(15), 3) - used(others, 3)
        assert gone.total() <= 1 and come.total() <= 1
        assert {one[0] for one in gone + come} <= {PEOPLE[own]}


def test_a_smaller_bound_keeps_a_part_of_what_a_larger_one_keeps() -> None:
    kept = [used(range(15), most) for most in range(1, 8)]
    assert all(not few - more for few, more in zip(kept, kept[1:], strict=False))


def test_the_key_decides_and_not_the_place() -> None:
    kept = {str(sorted(used(range(15), 2, bytes([k]) * 32))) for k in range(20)}
    assert len(kept) > 5
    assert used(range(15), 2) == used(range(15), 2)


def test_records_that_are_left_out_are_told_to_the_owner() -> None:
    with pytest.warns(UserWarning, match="6 of 15 records are not used.* 4 units has more than 3"):
        kept = at_most(some(range(15)), 3, KEY)
    assert len(kept.labels) == 9 and kept.max_records_per_unit == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(at_most(some(range(15)), 7, KEY).labels) == 15


def opened(location: object, ids: Any, most: int = 2, **options: Any) -> list[int]:  # noqa: ANN401
    """The first pixel of each record that is used."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = open_source(location, units=Units(ids, most), **options)  # type: ignore[arg-type]
    assert source.max_records_per_unit == most
    assert len(list(source.raw_records())) == len(source)
    return list(source.read(range(len(source)))[0][:, 0, 0, 0].tolist())


def pictures(root: Path, names: Sequence[str]) -> Path:
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(np.array([[[10 * i], [3]]], np.uint8)))
    return root


LAYOUTS = {
    "people": [f"{who}/{i}.png" for who in "pq" for i in range(4)],
    "classes": [f"{c}/{who}/{i}.png" for c in ("sick", "well") for who in "pq" for i in range(2)],
    "splits": [f"train/{c}/{who}/{i}.png" for c in "ab" for who in "pq" for i in range(2)]
    + ["test/a/p/0.png", "test/b/z/0.png"],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_names_a_person_also_in_two_classes(layout: str, tmp_path: Path) -> None:
    pictures(tmp_path, LAYOUTS[layout])
    found = opened(tmp_path, "folder", 3, split="train")
    of_p = [10 * i for i, name in enumerate(LAYOUTS[layout][:8]) if "p/" in name]
    assert len(found) == 6 and len(set(found) & set(of_p)) == 3
    classes = open_source(tmp_path, units=Units("folder", 9), split="train").class_names
    assert classes == {"people": ("all",), "classes": ("sick", "well")}.get(layout, ("a", "b"))


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["a.png", "b.png"], "must lie in the folder of its person"),
        (["a/p/0.png", "b/0.png"], "must have the folders of people on one level"),
        (["a/p/0.png", "a/1.png"], "move one away, or name the people in a column"),
        (["a/p/2020/0.png"], "got the folder 2020/"),
    ],
)
def test_folders_that_may_not_be_people_are_refused(
    names: list[str], why: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=why):
        opened(pictures(tmp_path, names), "folder")


@pytest.mark.parametrize("label", [",label", ""])
def test_a_column_of_the_list_beside_the_pictures_names_people(label: str, tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(6)]
    rows = [f"{name},{'07' if i < 4 else 8}{label and ',0'}" for i, name in enumerate(names)]
    pictures(tmp_path, names)
    (tmp_path / "metadata.csv").write_text("\n".join([f"file_name,who{label}", *rows]) + "\n")
    found = opened(tmp_path, "who", classes=1 if label else None)
    assert len(found) == 4 and found[2:] == [40, 50]
    with pytest.raises(ValueError, match=r"must have one column 'patient' of unit ids, got \['who"):
        opened(tmp_path, "patient")
    if label:
        with pytest.raises(ValueError, match="named like labels and cannot hold unit ids"):
            opened(tmp_path, "label")
    for blank in ("", " 8"):
        (tmp_path / "metadata.csv").write_text(
            "\n".join([f"file_name,who{label}", *rows[:5], f"5.png,{blank}{label and ',0'}"])
        )
        with pytest.raises(ValueError, match="'5.png' must have a unit id without blanks"):
            opened(tmp_path, "who", classes=1 if label else None)


def test_each_split_may_have_a_list_of_its_own(tmp_path: Path) -> None:
    pictures(tmp_path, [f"{split}/{i}.png" for split in ("train", "test") for i in range(3)])
    for split in ("train", "test"):
        rows = "".join(f"{i}.png,{split if i else 'p'}\n" for i in range(3))
        (tmp_path / split / "metadata.csv").write_text(f"file_name,who\n{rows}")
    train, both = (opened(tmp_path, "who", 1, split=split) for split in ("train", "all"))
    assert len(train) == 2 and 0 in train
    assert len(both) == 3  # p has a picture in both


def test_listed_pictures_lie_in_the_folder_of_their_person(tmp_path: Path) -> None:
    names = ["p/0.png", "p/1.png", "p/2.png", "q/0.png"]
    pictures(tmp_path, names)
    listing = tmp_path / "metadata.csv"
    listing.write_text("file_name,label\n" + "".join(f"{name},0\n" for name in names))
    assert len(opened(tmp_path, "folder", classes=1)) == 3
    listing.write_text("file_name,split\n" + "".join(f"{name},train\n" for name in names))
    with pytest.raises(ValueError, match="would be class and person at once"):
        opened(tmp_path, "folder")
    pictures(tmp_path, ["p/2020/0.png"])
    listing.write_text(
        "file_name,label\n" + "".join(f"{name},0\n" for name in [*names, "p/2020/0.png"])
    )
    with pytest.raises(ValueError, match=r"lies in PERSON/, got p/2020/0.png"):
        opened(tmp_path, "folder", classes=1)


def test_a_list_of_its_own_names_people(tmp_path: Path) -> None:
    root = pictures(tmp_path / "x", ["a/0.png", "a/1.png", "b/0.png", "b/1.png"])
    path = tmp_path / "people.csv"
    path.write_text("file_name,who\na/0.png,p\na/1.png,p\nb/0.png,p\nb/1.png,q\nc/9.png,q\n")
    found = opened(root, str(path))
    assert len(found) == 3 and found[-1] == 30
    assert opened(root, path) == found
    path.write_text("file_name,who\na/0.png,p\n")
    with pytest.raises(ValueError, match="must list every picture that is read.*'a/1.png'"):
        opened(root, path)
    path.write_text("file_name,who,site\na/0.png,p,1\n")
    with pytest.raises(ValueError, match="keep these two, or name the one of the ids 'unit'"):
        opened(root, path)
    with pytest.raises(ValueError, match="--unit who names a column of a metadata.csv"):
        opened(root, "who")


def test_a_column_of_parquet_names_people(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="Parquet needs the extra `parquet`")
    import pyarrow.parquet as pq

    def write(name: str, values: list[int], who: list[object]) -> None:
        pictures = [{"bytes": encode_png(np.full((2, 2, 1), v, np.uint8))} for v in values]
        table = {"image": pa.array(pictures), "label": [0] * len(values), "who": who}
        pq.write_table(pa.table(table), tmp_path / name)

    write("train-0.parquet", [0, 10, 20], ["p", "q", "p"])
    write("train-1.parquet", [30, 40], ["p", "r"])
    write("test.parquet", [50], ["p"])
    found = opened(tmp_path, "who", split="train", classes=1)
    assert len(found) == 4 and {10, 40} <= set(found)
    with pytest.raises(ValueError, match="unit ids of Parquet data stand in a column, got folder"):
        opened(tmp_path, "folder", classes=1)
    with pytest.raises(ValueError, match="must have one column 'person'"):
        opened(tmp_path, "person", classes=1)
    write("train-1.parquet", [30, 40], ["p", None])
    with pytest.raises(ValueError, match="train-1.parquet record 1 must have a unit id.* got None"):
        opened(tmp_path, "who", split="train", classes=1)


def test_data_in_memory_have_one_id_per_record() -> None:
    images = Images(to_float(torch.from_numpy(PIXELS).permute(0, 3, 1, 2)), torch.zeros(15).long())
    with pytest.warns(UserWarning, match="6 of 15 records are not used"):
        source = open_source(images, units=Units(PEOPLE, 3))
    whose = {PIXELS[i].tobytes(): who for i, who in enumerate(PEOPLE)}
    for rows in (source.read(range(len(source)))[0].permute(0, 2, 3, 1).numpy(),
                 [pixels for pixels, _ in source.raw_records()]):  # fmt: skip
        found = Counter(whose[row.tobytes()] for row in rows)
        assert found == {"ann": 3, "bob": 2, "cat": 3, "dan": 1}
    with pytest.raises(ValueError, match="one id per record, got 14 ids and 15 records"):
        opened(images, PEOPLE[1:])
    with pytest.raises(ValueError, match="give one id per record"):
        opened(images, "person")
    with pytest.raises(ValueError, match="goes with data in memory"):
        opened("digits", PEOPLE)


def test_an_array_of_an_npz_names_people(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    people = np.array([1] * 7 + [2] * 2 + [3] * 5 + [4])
    np.savez(path, images=PIXELS, labels=LABELS, person=people)
    whose = {PIXELS[i, 0, 0, 0]: who for i, who in enumerate(people.tolist())}
    assert len(whose) == 14  # the first pixel tells the record; two of the first person are equal
    found = opened(path, "person", 3, classes=2)
    assert Counter(whose[value] for value in found) == {1: 3, 2: 2, 3: 3, 4: 1}
    np.savez(path, images=PIXELS, labels=LABELS, person=people.astype(str)[:, None])
    assert opened(path, "person", 3, classes=2) == found
    with pytest.raises(ValueError, match=r"must hold an array 'who' of unit ids|an array of unit"):
        opened(path, "who", classes=2)
    with pytest.raises(ValueError, match="an array of unit ids is named with --unit"):
        open_source(path, classes=2)
    with pytest.raises(ValueError, match="unit ids of an npz stand in an array, got folder"):
        opened(path, "folder", classes=2)
    with pytest.raises(ValueError, match="'labels' is named like labels and cannot hold unit ids"):
        opened(path, "labels", classes=2)
    with pytest.raises(ValueError, match="'images' holds no unit ids"):
        opened(path, "images", classes=2)
    for wrong, why in ((people[1:], "one unit id per image"), (people / 2, "text or a whole num")):
        np.savez(path, images=PIXELS, labels=LABELS, person=wrong)
        with pytest.raises(ValueError, match=why):
            opened(path, "person", classes=2)


def test_an_npz_by_split_has_ids_for_every_split(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    arrays = {"train_images": PIXELS[:9], "test_images": PIXELS[9:], "train_person": [1] * 9}
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="an array 'person' of unit ids, for each split"):
        opened(path, "person")
    np.savez(path, **arrays, test_person=[1] * 5 + [2])
    assert len(opened(path, "person", 2, split="train")) == 2
    assert len(opened(path, "person", 2, split="test")) == 3
    assert len(opened(path, "person", 2)) == 3


def test_large_archives_have_the_ids_of_their_own_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpgen.data.formats.npy.MAPPED_BYTES", 10)
    for name, rows in (("a", slice(0, 8)), ("b", slice(8, 15))):
        np.savez(tmp_path / f"{name}.npz", images=PIXELS[rows], person=PEOPLE[rows])
    found = opened(tmp_path, "person", 1)
    assert len(found) == 4 and found[-1] == PIXELS[14, 0, 0, 0]


def test_a_key_of_the_json_in_tar_shards_names_people(tmp_path: Path) -> None:
    def shard(name: str, people: Sequence[object], first: int) -> None:
        with tarfile.open(tmp_path / name, "w") as archive:
            for i, who in enumerate(people):
                told = {"label": 0} | ({} if who is None else {"person": who})
                for suffix, data in (
                    ("png", encode_png(np.full((2, 2, 1), first + i, np.uint8))),
                    ("json", json.dumps(told).encode()),
                ):
                    member = tarfile.TarInfo(f"{i}.{suffix}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))

    shard("train-0.tar", ["p", "q", "p", 7], 0)
    shard("train-1.tar", ["p", "7"], 10)
    shard("test-0.tar", ["p"], 20)
    found = opened(tmp_path, "person", 1, split="train", classes=1)
    assert len(found) == 3 and found[0] < 11 and 1 in found
    assert len(found) == len(set(found))
    with pytest.raises(ValueError, match=r"have one column 'who' of unit ids, got \['label', 'per"):
        opened(tmp_path, "who", classes=1)
    with pytest.raises(ValueError, match="tar shards stand in the .json.*got folder"):
        opened(tmp_path, "folder", classes=1)
    shard("train-1.tar", ["p", None], 10)
    with pytest.raises(ValueError, match=r"1.json must have one column 'person'"):
        opened(tmp_path, "person", classes=1)


def test_a_list_by_index_names_people_of_idx_files(tmp_path: Path) -> None:
    def idx(name: str, values: np.ndarray) -> None:
        sizes = b"".join(n.to_bytes(4, "big") for n in values.shape)
        head = bytes([0, 0, 8, values.ndim]) + sizes
        (tmp_path / name).write_bytes(head + values.astype(np.uint8).tobytes())

    root, path = tmp_path, tmp_path / "people.csv"
    idx("train-images-idx3-ubyte", PIXELS[..., 0])
    idx("train-labels-idx1-ubyte", LABELS)
    rows = [f"{i},{who}" for i, who in enumerate(PEOPLE)]
    path.write_text("\n".join(["index,unit", *reversed(rows)]) + "\n")
    found = opened(root, str(path), 2, classes=2)
    assert len(found) == 7 and found[-1] == PIXELS[14, 0, 0, 0]
    for wrong, why in (
        (rows[:-1], "must list every record.*does not list index 14"),
        ([*rows, "15,eve"], "from 0 to 14, got '15'"),
        ([*rows, "3,eve"], "got '3' twice"),
        ([*rows[:-1], "14, eve"], "without blanks"),
        ([*rows[:-1], "-1,eve"], "got '-1'"),
    ):
        path.write_text("\n".join(["index,unit", *wrong]) + "\n")
        with pytest.raises(ValueError, match=why):
            opened(root, str(path), classes=2)
    with pytest.raises(ValueError, match="IDX files hold no unit ids, got folder.*FILE.csv"):
        opened(root, "folder", classes=2)
    idx("t10k-images-idx3-ubyte", PIXELS[:2, ..., 0])
    idx("t10k-labels-idx1-ubyte", LABELS[:2])
    path.write_text("\n".join(["index,unit", *rows]) + "\n")
    with pytest.raises(ValueError, match="must have the columns file_name, index, unit"):
        opened(root, str(path), split="train", classes=2)
    both = [f"train-images-idx3-ubyte,{row}" for row in rows]
    both += [f"t10k-images-idx3-ubyte,{i},ann" for i in range(2)]
    path.write_text("\n".join(["file_name,index,unit", *both]) + "\n")
    assert opened(root, str(path), 2, split="train", classes=2) == found
    assert len(opened(root, str(path), 1, split="test", classes=2)) == 1


def test_data_that_hold_no_unit_ids_say_so() -> None:
    with pytest.raises(ValueError, match="give one id per record"):
        opened("digits", "who")


def test_a_data_set_is_known_by_the_records_that_are_used(tmp_path: Path) -> None:
    """A surplus record is neither in the fingerprint nor among the marks."""
    root = pictures(tmp_path, [f"{who}/{i}.png" for who in "pq" for i in range(4)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = open_source(root, units=Units("folder", 3))
    every, found = identify(open_source(root), KEY), identify(source, KEY)
    assert len(every.marks) == 8 and len(found.marks) == len(source) == 6
    assert set(found.marks) < set(every.marks) and found.fingerprint != every.fingerprint
    kept = set(source.read(range(6))[0][:, 0, 0, 0].tolist())
    for i in range(8):
        if 10 * i not in kept:
            (root / "pq"[i // 4] / f"{i % 4}.png").unlink()
    assert identify(open_source(root), KEY).marks.tolist() == found.marks.tolist()
