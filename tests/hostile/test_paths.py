"""Pipes, devices, links, names: no reader waits, and none writes through what lies in its way."""

from __future__ import annotations

import io
import os
import re
import socket
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dpgen.benchmark.schedule import BenchmarkSettings, Cell, Entry, read
from dpgen.data.export import write_images
from dpgen.data.sources import open_source
from dpgen.evaluation.feature_cache import FeatureCache
from dpgen.evaluation.inception import inception
from dpgen.images.images import Images, PublicFacts
from dpgen.privacy.ledger.privacy_ledger import PrivacyLedger
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.statements.certificate import read_statement
from dpgen.privacy.statements.notice import read_notice
from dpgen.report.gallery import _read as read_picture
from dpgen.runs.checkpoint import Checkpoints
from dpgen.runs.folder import RunFolder
from dpgen.runs.released import load_network
from tests.hostile import bombs
from tests.hostile.children import in_child

Make = Callable[[Path], object]


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link(path: Path) -> None:
    path.symlink_to("victim")


def circle(path: Path) -> None:
    path.symlink_to(path.name)


def bound(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's address may have 100 letters
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


KINDS: list[Make] = [os.mkfifo, device, circle, bound]


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4), 7, np.uint8)).save(path)


SETTINGS = BenchmarkSettings("digits", (Entry("a", "dpdm"),))

# Where a file may lie, under a folder, and what then reads it.
PLACES: dict[str, Callable[[Path], object]] = {
    "images-00000.npz": open_source,
    "train-images-idx3-ubyte": open_source,
    "a.parquet": open_source,
    "a.tar": open_source,
    "README": open_source,
    "dataset.json": open_source,
    "facts.toml": lambda folder: PublicFacts.load(folder / "facts.toml"),
    "benchmark.toml": lambda folder: BenchmarkSettings.load(folder / "benchmark.toml"),
    "privacy.json": read_statement,
    "notice.json": read_notice,
    "ledger.jsonl": lambda folder: PrivacyLedger(folder / "ledger.jsonl").lines(),
    "checkpoint/run.json": lambda folder: RunFolder(folder, {}),
    "config.json": RunFolder.seed_of,
    "a.safetensors": lambda folder: Checkpoints(folder).load("a"),
    "model.safetensors": lambda folder: load_network(folder / "model.safetensors"),
    "plan.key": lambda folder: StageKeys(folder).noise("plan"),
    "owner": lambda folder: StageKeys(folder).check("me"),
    "weights.pth": lambda folder: inception(folder / "weights.pth"),
    "grid.png": lambda folder: read_picture("grid.png", folder),
    f"cells/{Cell('a', 1.0, 0).name}/cell.json": lambda folder: read(
        SETTINGS, folder, Cell("a", 1.0, 0)
    ),
}


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_plain_file_is_refused_at_once(tmp_path: Path, place: str, make: Make) -> None:
    folder = tmp_path / "f"
    path = folder / place
    path.parent.mkdir(parents=True)
    if PLACES[place] is open_source and place in ("README", "dataset.json"):
        picture(folder / "a" / "0.png")
    make(path)
    outcome = in_child(lambda: PLACES[place](folder))
    absent = make is circle and outcome.error in ("", "FileNotFoundError")
    assert outcome.refused or absent, outcome.message


@pytest.mark.parametrize("make", KINDS)
def test_every_picture_of_a_class_must_be_a_plain_file(tmp_path: Path, make: Make) -> None:
    """Only the first of them is looked at to learn the kind of data."""
    picture(tmp_path / "f" / "a" / "0.png")
    make(tmp_path / "f" / "a" / "1.png")
    outcome = in_child(lambda: open_source(tmp_path / "f"))
    assert outcome.refused and "1.png must be a plain file, got a" in outcome.message


def test_links_to_data_are_data(tmp_path: Path) -> None:
    """Stores of data sets are made of links; they are followed, folders and files alike."""
    picture(tmp_path / "store" / "one.png")
    (tmp_path / "f" / "a").mkdir(parents=True)
    (tmp_path / "f" / "a" / "0.png").symlink_to(tmp_path / "store" / "one.png")
    (tmp_path / "f" / "b").symlink_to(tmp_path / "store", target_is_directory=True)
    assert open_source(tmp_path / "f").class_names == ("a", "b")


@pytest.mark.parametrize(
    "name", ["/etc/x.png", "../x.png", "a/../../x.png", "..", "a/../x.png", "//x.png"]
)
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_shard_that_would_leave_its_folder_is_refused(
    tmp_path: Path, name: str, format: int  # noqa: A002
) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        archive.addfile(tarfile.TarInfo(name))
    (tmp_path / "a.tar").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="relative names only"):
        open_source(tmp_path)


@pytest.mark.parametrize("size", [-512, -1])
def test_a_member_of_negative_size_is_refused_and_not_read_again_and_again(
    tmp_path: Path, size: int
) -> None:
    (tmp_path / "a.tar").write_bytes(bombs.shard((bombs.member("x.png", size=size), b"")))
    outcome = in_child(lambda: open_source(tmp_path))
    assert outcome.refused and "a.tar is damaged" in outcome.message


@pytest.mark.parametrize("inside", ["../../etc/x", "/etc/x", "a\\..\\x", "images.npy/../x"])
def test_names_in_a_zip_are_never_paths(tmp_path: Path, inside: str) -> None:
    np.savez(tmp_path / "a.npz", **{inside: np.zeros((1, 2, 2), np.uint8)})
    with pytest.raises(ValueError, match="must hold images or arr_0"):
        open_source(tmp_path)


def test_a_zip_of_many_pictures_is_refused_with_its_cure(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for i in range(12_000):
            archive.writestr(f"{i:050}.png", b"")
    with pytest.raises(ValueError, match=r"a\.zip is a zip archive: unpack it"):
        open_source(tmp_path)


def test_a_folder_whose_name_is_no_text_is_no_class(tmp_path: Path) -> None:
    picture(tmp_path / os.fsdecode(b"\xff") / "0.png")
    with pytest.raises(ValueError, match=r"class_names must be text in UTF-8, got '\\udcff'"):
        open_source(tmp_path)


@pytest.mark.parametrize("name", ["checkpoint", "checkpoint/lock", "checkpoint/keys"])
def test_a_run_folder_does_not_write_through_links(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    RunFolder(tmp_path / "run", {}).close()
    path = tmp_path / "run" / name
    path.rename(tmp_path / "away")
    path.symlink_to(victim)
    before = os.stat(victim).st_mode
    with pytest.raises(ValueError, match=f"must hold no links, {path.name} is one"):
        RunFolder(tmp_path / "run", {})
    assert not any(victim.iterdir()) and os.stat(victim).st_mode == before


def test_a_run_folder_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to(tmp_path / "absent")
    with pytest.raises(ValueError, match="the run folder must be a folder"):
        RunFolder(tmp_path / "run", {})
    assert not (tmp_path / "absent").exists()


def test_a_partial_file_that_is_a_link_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    cache = FeatureCache(tmp_path / "cache")
    path = cache.path({"a": 1})
    path.parent.mkdir()
    path.with_name(f".{path.name}.{os.getpid()}.partial").symlink_to(tmp_path / "victim")
    cache.save({"a": 1}, {"x": torch.zeros(3)})
    assert (tmp_path / "victim").read_text() == "precious"
    assert cache.load({"a": 1}) is not None and not path.is_symlink()


@pytest.mark.parametrize("name", [".out.partial", ".out.partial.lock"])
@pytest.mark.parametrize("make", [os.mkfifo, device, circle, link])
def test_an_output_is_not_written_through_what_lies_in_its_way(
    tmp_path: Path, name: str, make: Make
) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "mine").write_text("precious")
    make(tmp_path / name)
    images = Images(torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64))

    def write() -> None:
        write_images([images], tmp_path / "out", format="npz", n_images=2, class_names=("all",))

    outcome = in_child(write)
    assert outcome.refused and re.search(f"{re.escape(name)} must be a f", outcome.message)
    assert (tmp_path / "victim" / "mine").read_text() == "precious"
    assert not (tmp_path / "out").exists()


def test_an_output_may_be_a_link_to_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "out").symlink_to("there")
    images = Images(torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64))
    write_images([images], tmp_path / "out", format="npz", n_images=2, class_names=("all",))
    assert (tmp_path / "there" / "images-00000.npz").is_file()
    assert (tmp_path / "out").is_symlink()


@pytest.mark.parametrize("name", ["../grid.png", "/etc/grid.png", "link.png"])
def test_a_report_shows_no_picture_from_elsewhere(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    picture(tmp_path / "grid.png")
    (folder / "link.png").symlink_to(tmp_path / "grid.png")
    with pytest.raises(ValueError, match="it lies outside the results"):
        read_picture(name, folder)
