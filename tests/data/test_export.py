from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dpgen.data.export import write_images
from dpgen.data.formats.shards import write_new
from dpgen.data.formats.table import written
from dpgen.data.sources import open_source
from dpgen.images.images import Images, to_float, to_uint8

ROOT = Path(__file__).parents[2]
FORMATS = written()
NAMES = ("zebra", "Ameisen­bär", "red fox", "犬")  # unsorted, spaces, a soft hyphen, another script


def images(n: int = 23, channels: int = 3, n_classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    shape = (n, channels, 5, 7)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return pixels, torch.arange(n) % n_classes


def blocks(pixels: torch.Tensor, labels: torch.Tensor, size: int = 5) -> Iterator[Images]:
    for start in range(0, len(pixels), size):
        yield Images(to_float(pixels[start : start + size]), labels[start : start + size])


def needs_pyarrow(format: str) -> None:  # noqa: A002
    if format == "parquet":
        pytest.importorskip("pyarrow", reason="Parquet needs the extra `parquet`")


def nothing_but(folder: Path, *names: str) -> bool:
    return sorted(entry.name for entry in folder.iterdir()) == sorted(names)


def test_a_small_file_is_written_whole_and_never_over_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    path = tmp_path / "0.png"
    write_new(str(path), bytes(range(100)))
    assert path.read_bytes() == bytes(range(100))
    with pytest.raises(FileExistsError):
        write_new(str(path), b"another")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        write_new(str(tmp_path / "link"), b"another")
    assert path.read_bytes() == bytes(range(100)) and nothing_but(tmp_path, "0.png", "link")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shard_size", [4, 23, 10_000])
@pytest.mark.parametrize("format", FORMATS)
def test_what_is_read_back_is_what_was_written(
    tmp_path: Path, format: str, shard_size: int, channels: int
) -> None:
    needs_pyarrow(format)
    pixels, labels = images(channels=channels)
    out = write_images(
        blocks(pixels, labels),
        tmp_path / "set",
        format=format,
        n_images=23,
        class_names=NAMES,
        shard_size=shard_size,
        certificate={"epsilon": 1.0},
        documents={"README.md": b"synthetic"},
    )
    source = open_source(out)
    found, found_labels = source.read(range(23))
    assert source.class_names == NAMES
    # A folder is read class by class, in the order of the folders' names; within one, as written.
    by_name = sorted(range(23), key=lambda i: (NAMES[labels[i]], i))
    order = by_name if format == "folder" else list(range(23))
    assert torch.equal(found, pixels[order]) and torch.equal(found_labels, labels[order])
    assert json.loads((out / "privacy.json").read_text()) == {"epsilon": 1.0}
    assert (out / "README.md").read_bytes() == b"synthetic"
    assert nothing_but(tmp_path, "set")


@pytest.mark.parametrize("format", FORMATS)
def test_a_class_without_images_keeps_its_number(tmp_path: Path, format: str) -> None:
    needs_pyarrow(format)
    pixels, _ = images(3)
    labels = torch.tensor([3, 0, 3])
    out = write_images(
        blocks(pixels, labels), tmp_path / "s", format=format, n_images=3, class_names=NAMES
    )
    source = open_source(out)
    assert source.class_names == NAMES
    assert sorted(source.read(range(3))[1].tolist()) == [0, 3, 3]


@pytest.mark.parametrize("format", FORMATS)
def test_block_and_shard_borders_change_no_byte(tmp_path: Path, format: str) -> None:
    needs_pyarrow(format)
    if format == "parquet":
        pytest.skip("a Parquet row group is a block")
    pixels, labels = images()
    trees = []
    for size in (1, 6, 23):
        out = write_images(
            blocks(pixels, labels, size),
            tmp_path / str(size),
            format=format,
            n_images=23,
            class_names=NAMES,
            shard_size=8,
        )
        files = sorted(path for path in out.rglob("*") if path.is_file())
        trees.append([(str(path.relative_to(out)), path.read_bytes()) for path in files])
    assert trees[0] == trees[1] == trees[2]


def test_the_layouts_are_those_that_other_tools_expect(tmp_path: Path) -> None:
    pixels, labels = images()
    sets = {
        name: write_images(
            blocks(pixels, labels),
            tmp_path / name,
            format=name,
            n_images=23,
            class_names=("a", "b", "c", "d"),
            shard_size=20,
        )
        for name in ("folder", "npz", "webdataset")
    }
    assert nothing_but(sets["folder"], "a", "b", "c", "d", "dataset.json")
    assert nothing_but(sets["folder"] / "b", *(f"{i:06d}.png" for i in range(1, 23, 4)))
    assert nothing_but(sets["npz"], "images-00000.npz", "images-00001.npz")
    with np.load(sets["npz"] / "images-00001.npz") as archive:
        assert archive["images"].shape == (3, 5, 7, 3) and archive["images"].dtype == np.uint8
        assert archive["labels"].tolist() == [0, 1, 2] and archive["labels"].dtype == np.int64
    assert nothing_but(sets["webdataset"], "shard-000000.tar", "shard-000001.tar", "dataset.json")
    with tarfile.open(sets["webdataset"] / "shard-000001.tar") as archive:
        assert archive.getnames()[:3] == ["000020.png", "000020.cls", "000021.png"]


def test_parquet_shows_an_image_and_a_class_label_to_hugging_face(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet", reason="Parquet needs the extra `parquet`")
    pixels, labels = images()
    out = write_images(
        blocks(pixels, labels),
        tmp_path / "set",
        format="parquet",
        n_images=23,
        class_names=NAMES,
        shard_size=20,
    )
    assert nothing_but(out, "train-00000-of-00002.parquet", "train-00001-of-00002.parquet")
    table = pq.read_table(out / "train-00001-of-00002.parquet")
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features == {
        "image": {"_type": "Image"},
        "label": {"names": list(NAMES), "_type": "ClassLabel"},
    }
    assert [row["path"] for row in table["image"].to_pylist()] == [
        f"{i:06d}.png" for i in (20, 21, 22)
    ]
    assert open_source(out, split="train").read([22])[1].tolist() == [2]


def test_a_certificate_may_state_what_the_other_files_are(tmp_path: Path) -> None:
    def statement(folder: Path) -> dict[str, list[str]]:
        return {"files": sorted(path.name for path in folder.iterdir())}

    out = write_images(
        [GOOD],
        tmp_path / "s",
        format="npz",
        n_images=2,
        class_names=("a", "b"),
        certificate=statement,
        certificate_name="notice.json",
        documents={"facts.json": b"{}"},
    )
    stated = json.loads((out / "notice.json").read_text())
    assert stated == {"files": ["facts.json", "images-00000.npz"]}


def test_floats_are_rounded_as_everywhere(tmp_path: Path) -> None:
    pixels = torch.linspace(-1.2, 1.2, 70).reshape(1, 1, 7, 10)
    block = Images(pixels, torch.zeros(1, dtype=torch.int64))
    out = write_images([block], tmp_path / "s", format="npz", n_images=1, class_names=("all",))
    assert torch.equal(open_source(out).read([0])[0], to_uint8(pixels))


def test_an_empty_folder_is_filled_and_a_full_one_refused(tmp_path: Path) -> None:
    pixels, labels = images()
    out = tmp_path / "set"
    out.mkdir()
    options = {"format": "npz", "n_images": 23, "class_names": NAMES}
    write_images(blocks(pixels, labels), out, **options)
    before = (out / "images-00000.npz").read_bytes()
    with pytest.raises(ValueError, match="choose an empty folder"):
        write_images(blocks(pixels, labels), out, **options)
    assert (out / "images-00000.npz").read_bytes() == before
    assert nothing_but(tmp_path, "set")


GOOD = Images(torch.zeros(2, 1, 4, 4), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("given", "options", "word"),
    [
        ([GOOD], {"n_images": 3}, "n_images = 3 images, got 2"),
        ([GOOD], {"n_images": 1}, "n_images = 1 images, got more"),
        ([], {}, "got 0"),
        ([replace(GOOD, labels=torch.tensor([0, 2]))], {}, "in 0..1, got 2 at record 1"),
        ([replace(GOOD, labels=torch.tensor([0]))], {}, "as many labels"),
        ([replace(GOOD, pixels=torch.zeros(2, 4, 4, 4))], {}, "1 or 3 channels"),
        ([replace(GOOD, pixels=torch.full((2, 1, 4, 4), torch.nan))], {}, "finite"),
        ([GOOD, replace(GOOD, pixels=torch.zeros(2, 1, 4, 5))], {"n_images": 4}, "one shape"),
        ([GOOD], {"format": "zip"}, "folder, npz, parquet, webdataset, got 'zip'"),
        ([GOOD], {"n_images": 0}, "at least 1"),
        ([GOOD], {"shard_size": 0}, "shard_size must be at least 1"),
        ([GOOD], {"class_names": ("a", "a")}, "distinct"),
        ([GOOD], {"certificate_name": "x.json"}, "notice.json or dpgen-part.json"),
        ([GOOD], {"documents": {"grid.png": b""}}, "documents"),
        ([GOOD], {"documents": {"../x.json": b""}}, "documents"),
        ([GOOD], {"documents": {"dataset.json": b""}}, "documents"),
        ([GOOD], {"class_names": ("a/b", "c")}, "safe as folder names, got 'a/b'"),
        ([GOOD], {"class_names": ("..", "c")}, "safe as folder names"),
        ([GOOD], {"class_names": (".a", "c")}, "safe as folder names"),
        ([GOOD], {"class_names": ("a ", "c")}, "safe as folder names"),
        ([GOOD], {"class_names": ("CON", "c")}, "safe as folder names"),
        ([GOOD], {"class_names": ("x" * 256, "c")}, "safe as folder names"),
        ([GOOD], {"class_names": ("Cat", "cat")}, "more than case"),
        ([GOOD], {"class_names": ("train", "test")}, "splits"),
    ],
)
def test_a_bad_call_writes_nothing(
    tmp_path: Path, given: list[Images], options: dict[str, object], word: str
) -> None:
    arguments = {"format": "folder", "n_images": 2, "class_names": ("a", "b")} | options
    with pytest.raises(ValueError, match=word):
        write_images(given, tmp_path / "set", **arguments)
    assert nothing_but(tmp_path)


@pytest.mark.parametrize("format", ["npz", "parquet", "webdataset"])
def test_names_that_are_no_folder_names_are_kept_by_the_other_formats(
    tmp_path: Path, format: str
) -> None:
    needs_pyarrow(format)
    names = ("a/b", "A/B")
    out = write_images([GOOD], tmp_path / "s", format=format, n_images=2, class_names=names)
    assert open_source(out).class_names == names


def test_a_full_disk_is_noticed_before_the_first_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=30 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    block = Images(torch.zeros(1, 3, 256, 256), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(OSError, match="make space") as error:
        write_images([block], tmp_path / "s", format="npz", n_images=1000, class_names=("all",))
    assert error.value.errno == errno.ENOSPC and nothing_but(tmp_path)


def test_a_failing_generator_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[Images]:
        yield GOOD
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_images(broken(), tmp_path / "s", format="folder", n_images=4, class_names=("a", "b"))
    assert nothing_but(tmp_path)


def test_two_writers_of_one_name_do_not_meet(tmp_path: Path) -> None:
    options = {"format": "folder", "n_images": 4, "class_names": ("a", "b")}
    refusals = []

    def interrupted() -> Iterator[Images]:
        yield GOOD
        with pytest.raises(ValueError, match="being written by another process") as error:
            write_images([GOOD, GOOD], tmp_path / "s", **options)
        refusals.append(error)
        yield GOOD

    out = write_images(interrupted(), tmp_path / "s", **options)
    assert len(refusals) == 1 and len(open_source(out)) == 4 and nothing_but(tmp_path, "s")


def test_a_target_filled_meanwhile_is_left_alone(tmp_path: Path) -> None:
    def filling() -> Iterator[Images]:
        (tmp_path / "s").mkdir()
        (tmp_path / "s/mine.txt").write_text("mine")
        yield GOOD

    with pytest.raises(ValueError, match="filled by someone else"):
        write_images(filling(), tmp_path / "s", format="npz", n_images=2, class_names=("a", "b"))
    assert nothing_but(tmp_path, "s") and nothing_but(tmp_path / "s", "mine.txt")


KILLED = """
import os, signal, sys
import torch
from dpgen.data.export import write_images
from dpgen.images.images import Images

def blocks():
    for i in range(4):
        if i == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        yield Images(torch.zeros(2, 1, 4, 4), torch.tensor([0, 1]))

options = {"n_images": 8, "class_names": ("a", "b"), "shard_size": 2}
write_images(blocks(), sys.argv[1], format=sys.argv[2], **options)
"""


@pytest.mark.parametrize("format", ["folder", "webdataset"])
def test_a_killed_writer_leaves_no_set_and_does_not_block_the_next(
    tmp_path: Path, format: str
) -> None:
    out = tmp_path / "set"
    run = subprocess.run([sys.executable, "-c", KILLED, str(out), format], cwd=ROOT, check=False)
    assert run.returncode == -signal.SIGKILL
    assert not out.exists() and any((tmp_path / ".set.partial").iterdir())
    write_images([GOOD], out, format=format, n_images=2, class_names=("a", "b"))
    assert len(open_source(out)) == 2 and nothing_but(tmp_path, "set")


def test_every_shard_is_synced_before_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync, rename = os.fsync, os.rename

    def watched_fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def watched_rename(source: Path, target: Path) -> None:
        wanted = [str(path) for path in [source, *source.iterdir()]]
        assert set(wanted) <= set(synced)
        rename(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "rename", watched_rename)
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("open files are looked up in /proc")
    options = {"n_images": 2, "class_names": ("a", "b"), "shard_size": 1, "certificate": {}}
    out = write_images([GOOD], tmp_path / "s", format="webdataset", **options)
    assert len(list(out.iterdir())) == 4 and str(tmp_path) in synced


def test_an_images_file_is_a_plain_zip_of_arrays(tmp_path: Path) -> None:
    out = write_images([GOOD], tmp_path / "s", format="npz", n_images=2, class_names=("a", "b"))
    data = (out / "images-00000.npz").read_bytes()
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        assert sorted(archive) == ["class_names", "images", "labels"]
        assert archive["class_names"].tolist() == ["a", "b"]
