"""Where silo ids are read, and that they change nothing but the shards."""

from __future__ import annotations

import io
import json
import tarfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpgen.data.formats.pictures import encode_png
from dpgen.data.formats.records import Records, array_records
from dpgen.data.identity import identify
from dpgen.data.opening import open_images
from dpgen.data.silos import SiloIds, assigned
from dpgen.data.sources import RecordSource, open_source
from dpgen.data.units import Units, at_most
from dpgen.images.images import Images, to_float

pytestmark = [
    pytest.mark.usefixtures("home"), pytest.mark.filterwarnings("ignore:.*no column is named"),
]  # fmt: skip
KEY = bytes(range(32))
PIXELS = np.random.default_rng(0).integers(0, 256, (9, 4, 4, 1), dtype=np.uint8)
LABELS = np.arange(9) % 2
HOMES = ["b", "a", "c", "a", "b", "a", "c", "a", "b"]
PEOPLE = ["p", "p", "q", "q", "r", "r", "s", "s", "t"]


def content(source: RecordSource) -> set[tuple[bytes, int, str]]:
    """All records with their silos."""
    assert source.silos is not None
    numbers = source.silo_of(range(len(source)))
    return {
        (pixels.tobytes(), label, source.silos.names[number])
        for (pixels, label), number in zip(source.raw_records(), numbers, strict=True)
    }


WHOLE = {
    (pixels.tobytes(), int(label), home)
    for pixels, label, home in zip(PIXELS, LABELS, HOMES, strict=True)
}


def pictures(root: Path, place: Callable[[int], str]) -> Path:
    for i, pixels in enumerate(PIXELS):
        path = root / place(i)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(pixels))
    return root


def class_and_silo(root: Path) -> Path:
    return pictures(root, lambda i: f"{LABELS[i]}/{HOMES[i]}/{i}.png")


def silo_and_class(root: Path) -> Path:
    return pictures(root, lambda i: f"{HOMES[i]}/{LABELS[i]}/{i}.png")


def listed(root: Path) -> Path:
    pictures(root, lambda i: f"{i}.png")
    rows = [f"{i}.png,{LABELS[i]},{HOMES[i]},{PEOPLE[i]}" for i in range(9)]
    (root / "metadata.csv").write_text("\n".join(["file_name,label,ward,person", *rows]))
    return root


def numpy_archive(root: Path) -> Path:
    root.mkdir()
    names = np.array(["0", "1"])
    np.savez(root / "x.npz", images=PIXELS, labels=LABELS, class_names=names, ward=HOMES)
    return root / "x.npz"


def tar(root: Path) -> Path:
    root.mkdir()
    with tarfile.open(root / "x.tar", "w") as archive:
        for i, pixels in enumerate(PIXELS):
            told = json.dumps({"label": int(LABELS[i]), "ward": HOMES[i]}).encode()
            for name, data in ((f"{i}.png", encode_png(pixels)), (f"{i}.json", told)):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return root / "x.tar"


def in_a_list(root: Path) -> Path:
    pictures(root, lambda i: f"{LABELS[i]}/{i}.png")
    rows = [f"{LABELS[i]}/{i}.png,{HOMES[i]}" for i in range(9)]
    (root.parent / "silos.csv").write_text("\n".join(["file_name,silo", *rows]))
    return root


@pytest.mark.parametrize(
    ("write", "ids", "classes"),
    [(class_and_silo, "folder", None), (silo_and_class, "top-folder", None), (listed, "ward", 2),
     (numpy_archive, "ward", None), (tar, "ward", 2), (in_a_list, "silos.csv", None)],
)  # fmt: skip
def test_silo_ids_are_read_in_every_form_in_which_unit_ids_are(
    write: Callable[[Path], Path], ids: str, classes: int | None, tmp_path: Path
) -> None:
    location = write(tmp_path / "set")
    place = tmp_path / ids if ids.endswith(".csv") else ids
    source = open_source(location, silos=SiloIds(place, 9), classes=classes)
    assert content(source) == WHOLE
    assert source.silos is not None and source.silos.names == ("a", "b", "c")
    assert source.silos.ids == ("a CSV file" if ids.endswith(".csv") else ids)
    assert source.units is None, "a silo is no person"


def test_a_list_with_both_ids_gives_each_its_own_column(tmp_path: Path) -> None:
    location = pictures(tmp_path / "set", lambda i: f"{LABELS[i]}/{i}.png")
    rows = [f"{LABELS[i]}/{i}.png,{PEOPLE[i]},{HOMES[i]}" for i in range(9)]
    (tmp_path / "ids.csv").write_text("\n".join(["file_name,unit,silo", *rows]))
    ids = tmp_path / "ids.csv"
    source = open_source(location, silos=SiloIds(ids, 9), units=Units(ids, 9))
    assert content(source) == WHOLE
    by_file = {pixels.tobytes(): who for pixels, who in zip(PIXELS, PEOPLE, strict=True)}
    found = [by_file[pixels.tobytes()] for pixels, _ in source.raw_records()]
    assert list(source.units or ()) == found


def test_a_list_by_index_names_the_silos_of_idx_files(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    head = np.array([0x803, 9, 4, 4], ">i4").tobytes()
    (root / "train-images-idx3-ubyte").write_bytes(head + PIXELS.tobytes())
    head = np.array([0x801, 9], ">i4").tobytes()
    (root / "train-labels-idx1-ubyte").write_bytes(head + LABELS.astype(np.uint8).tobytes())
    path = tmp_path / "silos.csv"
    path.write_text("\n".join(["index,silo", *(f"{i},{home}" for i, home in enumerate(HOMES))]))
    assert content(open_source(root, silos=SiloIds(path, 9), classes=2)) == WHOLE
    with pytest.raises(ValueError, match="with the columns index and silo"):
        open_source(root, silos=SiloIds("ward", 9), classes=2)


def test_people_may_have_folders_above_the_classes(tmp_path: Path) -> None:
    source = open_source(silo_and_class(tmp_path / "set"), units=Units("top-folder", 9))
    assert sorted(source.units or ()) == sorted(HOMES) and source.class_names == ("0", "1")


def test_silos_and_people_are_read_of_one_table_and_counted_apart(tmp_path: Path) -> None:
    location = listed(tmp_path / "set")
    with pytest.warns(UserWarning, match="records are not used"):
        source = open_source(
            location, silos=SiloIds("ward", 9), units=Units("person", 1), classes=2
        )
    assert len(source) == 5 and content(source) < WHOLE
    assert sorted(source.units or ()) == ["p", "q", "r", "s", "t"]
    assert source.silos is not None and source.silos.names == ("a", "b", "c")


def test_of_copies_in_two_silos_the_one_that_is_kept_does_not_follow_from_their_order() -> None:
    """A copy in another silo is another record: it votes elsewhere."""
    kept = []
    for homes in (("a", "b"), ("b", "a")):
        both = array_records("test", PIXELS[[0, 0]], LABELS[[0, 0]], ("0", "1"), "it")
        records = Records(**{**vars(both), "units": ("p", "p"), "silos": homes})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kept.append(at_most(records, 1, KEY).silos)
    assert kept == [("a",), ("a",)]


def test_silos_do_not_change_what_the_data_set_is_and_moved_records_are_seen(
    tmp_path: Path,
) -> None:
    location = silo_and_class(tmp_path / "set")
    other = class_and_silo(tmp_path / "other")
    sources = [
        open_source(location, silos=SiloIds("top-folder", 9)),
        open_source(other, silos=SiloIds("folder", 9)),
        open_source(other, units=Units("folder", 9)),
    ]
    found = [identify(source, KEY) for source in sources]
    assert len({one.fingerprint for one in found}) == 1
    assert all(np.array_equal(one.marks, found[0].marks) for one in found)
    assert assigned(sources[0]) == assigned(sources[1]) != "" and assigned(sources[2]) == ""
    (other / "1" / "c").mkdir()
    (other / "1" / "a" / "1.png").rename(other / "1" / "c" / "1.png")
    moved = open_source(other, silos=SiloIds("folder", 9))
    assert identify(moved, KEY).fingerprint == found[0].fingerprint
    assert assigned(moved) != assigned(sources[0])


def images() -> Images:
    import torch

    pixels = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)
    return Images(to_float(pixels), torch.from_numpy(LABELS), ("0", "1"))


def test_declared_silos_may_be_without_records_and_no_record_without_one() -> None:
    data = open_images(images(), silo=HOMES, silos=["d", "c", "b", "a"], max_records_per_silo=4)
    assert data.silos is not None
    assert data.silos.names == ("a", "b", "c", "d") and data.silos.max_records == 4
    with pytest.raises(ValueError, match="of silo 'b', which is not among the 2 silos"):
        open_images(images(), silo=HOMES, silos=["c", "a"], max_records_per_silo=4)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"silo": HOMES}, "silo= needs max_records_per_silo=M.*declared and never counted"),
        ({"max_records_per_silo": 3}, "are of silos"),
        ({"silos": ["a", "b"]}, "are of silos"),
        ({"silo": HOMES, "silos": "abc", "max_records_per_silo": 3}, "must be a list of names"),
        ({"silo": HOMES, "silos": [*"abca"], "max_records_per_silo": 3}, "must be distinct names"),
        ({"silo": HOMES[:5], "max_records_per_silo": 3}, "one id per record, got 5 ids and 9"),
        ({"silo": "ward", "max_records_per_silo": 3}, "silo ids are read of files and folders"),
        ({"silo": "", "max_records_per_silo": 3}, "must be a column"),
        ({"silo": [*HOMES[:8], ""], "max_records_per_silo": 3}, "record 8 must have a silo id"),
        ({"silo": HOMES, "max_records_per_silo": 0}, "max_records_per_silo must be"),
        ({"silo": [*HOMES[:8], "a\n"], "max_records_per_silo": 3}, "silo id without blanks"),
        ({"silo": [*HOMES[:8], "a\x00a"], "max_records_per_silo": 3}, "printable"),
    ],
)
def test_what_is_no_silo_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=said):
        open_images(images(), **given)


def test_messages_of_the_readers_speak_of_silos(tmp_path: Path) -> None:
    flat = pictures(tmp_path / "flat", lambda i: f"{LABELS[i]}/{i}.png")
    for ids, said in (
        ("top-folder", "must hold the folders of its classes"),
        ("ward", r"--silo ward names a column"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            open_source(flat, silos=SiloIds(ids, 9))
        assert "unit" not in str(caught.value) and "person" not in str(caught.value)
    with pytest.raises(ValueError, match="is listed|must list every picture"):
        (tmp_path / "silos.csv").write_text("file_name,silo\n0/0.png,a\n")
        open_source(flat, silos=SiloIds(tmp_path / "silos.csv", 9))


def test_ids_that_two_readings_find_of_other_records_are_not_put_together(tmp_path: Path) -> None:
    location = class_and_silo(tmp_path / "set")
    found = Counter(label for *_, label in WHOLE)
    assert found == {"a": 4, "b": 3, "c": 2}
    with pytest.raises(ValueError, match="write both ids in columns|must hold pictures only"):
        open_source(location, silos=SiloIds("folder", 9), units=Units("top-folder", 1))
