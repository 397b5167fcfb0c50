"""Zip archives and addresses: read as what they hold, from a private copy that goes away."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from dpgen.data import copies
from dpgen.data.formats.pictures import encode_png
from dpgen.data.sources import open_source

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(autouse=True)
def no_copies_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "_COPIES", {})


def png(value: int) -> bytes:
    return encode_png(np.full((6, 6, 1), value, np.uint8))


CLASSES = {"a/0.png": png(1), "b/0.png": png(2), "b/1.png": png(3)}


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def values(location: str | Path, **options: object) -> list[int]:
    source = open_source(location, **options)  # type: ignore[arg-type]
    return source.read(range(len(source)))[0][:, 0, 0, 0].tolist()


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, images=np.full((2, 6, 6), 9, np.uint8))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (CLASSES, [1, 2, 3]),
        ({f"my set/{name}": data for name, data in CLASSES.items()}, [1, 2, 3]),
        ({"0.png": png(4), "1.png": png(5), "__MACOSX/._0.png": b"x"}, [4, 5]),
        ({"set/a.npz": npz()}, [9, 9]),
        ({"a.npz": npz()}, [9, 9]),
    ],
)
def test_a_zip_is_read_as_what_it_holds(
    tmp_path: Path, members: dict[str, bytes], expected: list[int]
) -> None:
    assert values(zipped(tmp_path / "x.zip", members)) == expected


def test_splits_and_classes_in_a_zip_stay_what_they_are(tmp_path: Path) -> None:
    splits = {"train/a/0.png": png(1), "train/b/0.png": png(2), "test/b/0.png": png(3)}
    assert values(zipped(tmp_path / "x.zip", splits), split="test") == [3]
    one_class = open_source(zipped(tmp_path / "y.zip", {"owl/0.png": png(1)}))
    assert one_class.class_names == ("owl",)


def member(name: str, **fields: object) -> bytes:
    """An archive of one member whose entry says what it should not."""
    info = zipfile.ZipInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, png(1))
    return buffer.getvalue()


def encrypted() -> bytes:
    data = bytearray(member("a/0.png"))
    data[data.index(b"PK\1\2") + 8] |= 1
    return bytes(data)


def damaged() -> bytes:
    data = bytearray(member("a/0.png"))
    data[60] ^= 1
    return bytes(data)


def twice() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a/0.png", png(1))
        archive.writestr("a/0.png", png(2))
    return buffer.getvalue()


BAD = {
    "leaves": (lambda: member("../0.png"), "relative names only, got '../0.png'"),
    "absolute": (lambda: member("/tmp/0.png"), "relative names only"),
    "windows": (lambda: member("..\\0.png"), "relative names only"),
    "link": (lambda: member("a/0.png", external_attr=0o120777 << 16), "a link or a device"),
    "encrypted": (encrypted, "is encrypted"),
    "damaged": (damaged, "is damaged or truncated: Bad CRC-32"),
    "cut": (lambda: member("a/0.png")[:-30], "is damaged or truncated"),
    "twice": (twice, "each name once"),
    "lzma": (lambda: member("a/0.png", compress_type=zipfile.ZIP_LZMA), "packed otherwise"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_archive_is_refused_and_leaves_nothing(tmp_path: Path, home: Path, name: str) -> None:
    make, words = BAD[name]
    (tmp_path / "x.zip").write_bytes(make())
    with pytest.raises(ValueError, match="x.zip") as error:
        open_source(tmp_path / "x.zip")
    assert words in str(error.value)
    assert not list((home / "copies").iterdir()) and not (tmp_path / "0.png").exists()


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, home: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"a/0.png": bytes(2**27)})
    with pytest.raises(ValueError, match="x.zip must unpack to at most 200 times"):
        open_source(path)
    assert not list((home / "copies").iterdir())


def test_an_error_names_the_archive_and_not_the_copy(tmp_path: Path, home: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"a/0.png": png(1), "a/1.jpg": b"\xff\xd8\xff cut"})
    with pytest.raises(ValueError, match=r"x.zip/a/1.jpg is damaged") as error:
        open_source(path)
    assert str(home) not in str(error.value)


def test_a_copy_is_its_owners_alone_and_made_once(tmp_path: Path, home: Path) -> None:
    path = zipped(tmp_path / "x.zip", CLASSES)
    values(path), values(path)
    found = [entry for entry in (home / "copies").iterdir() if entry.is_dir()]
    assert len(found) == 1
    for folder in (home / "copies", *found):
        assert folder.stat().st_mode & 0o777 == 0o700
    zipped(path, {"a/0.png": png(8)})  # another archive under the same name
    os.utime(path, (1, 1))
    assert values(path) == [8]


LEAVE = """
import os, sys
from dpgen.data.sources import open_source
open_source(sys.argv[1])
print(len(os.listdir(sys.argv[2])), flush=True)
if sys.argv[3] == "killed":
    os.kill(os.getpid(), 9)
"""


def test_a_copy_goes_with_its_process_or_with_the_next_copy(tmp_path: Path, home: Path) -> None:
    path = zipped(tmp_path / "x.zip", CLASSES)
    place = home / "copies"

    def leave(way: str) -> list[str]:
        command = [sys.executable, "-c", LEAVE, str(path), str(place), way]
        assert subprocess.run(command, stdout=subprocess.PIPE).stdout == b"2\n"
        return os.listdir(place)

    assert leave("ends") == []
    assert len(leave("killed")) == 2
    values(path)
    assert len(os.listdir(place)) == 2  # its own folder and lock


@pytest.fixture
def bucket() -> Iterator[MemoryFileSystem]:
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    for name, data in CLASSES.items():
        memory.pipe_file(f"/bucket/{name}", data)
    yield memory
    memory.store.clear()


def test_an_address_is_read_like_the_folder_that_it_is(bucket: MemoryFileSystem) -> None:
    source = open_source("memory://bucket")
    assert source.class_names == ("a", "b") and values("memory://bucket") == [1, 2, 3]


def test_an_address_may_name_a_file_or_an_archive(bucket: MemoryFileSystem, tmp_path: Path) -> None:
    bucket.pipe_file("/set.npz", npz())
    bucket.pipe_file("/set.zip", zipped(tmp_path / "x.zip", CLASSES).read_bytes())
    assert values("memory://set.npz") == [9, 9]
    assert values("memory://set.zip") == [1, 2, 3]


def test_a_short_file_is_noticed(
    bucket: MemoryFileSystem, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryFileSystem, "open", lambda *_: io.BytesIO(b"cut"))
    with pytest.raises(ValueError, match="memory://bucket: .* bytes of its listing, got 3"):
        open_source("memory://bucket")
    assert not list((home / "copies").iterdir())


def test_what_changes_while_it_is_copied_is_refused(
    bucket: MemoryFileSystem, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change() -> None:
        bucket.pipe_file("/bucket/b/0.png", png(4))  # as long as before, and newer

    monkeypatch.setattr(bucket, "invalidate_cache", change)
    with pytest.raises(ValueError, match="memory://bucket changed while it was copied"):
        open_source("memory://bucket")
    assert not list((home / "copies").iterdir())


def test_a_name_that_leaves_the_folder_is_refused(
    bucket: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = {"/bucket/../../x.png": {"size": 3}}
    monkeypatch.setattr(MemoryFileSystem, "find", lambda *_, **__: listing)
    with pytest.raises(ValueError, match="must hold names below it only"):
        open_source("memory://bucket")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("https://example.org/set.zip", "https:// is not read, a web server .* download it"),
        ("http://example.org", "http:// is not read"),
        ("file:///tmp", "give the path alone"),
        ("simplecache::memory://bucket", "chain|no data at"),
        ("memory://a::zip://b", "a chain of them"),
        ("s3://key:secret@bucket/set", "must hold no password"),
        ("nosuch://bucket", "not an address for fsspec"),
        ("memory://not/there", "no data at 'memory://not/there'"),
    ],
)
def test_an_address_that_is_not_fetched_is_refused_with_the_reason(
    address: str, words: str, home: Path
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=words) as error:
        open_source(address)
    assert "secret" not in str(error.value)
    assert not (home / "copies").exists() or not list((home / "copies").iterdir())


def test_without_fsspec_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ValueError, match="pip install fsspec"):
        open_source("memory://bucket")


@pytest.mark.parametrize(
    ("address", "package"),
    [
        ("s3://bucket/set", "s3fs"), ("gs://bucket/set", "gcsfs"),
        ("hf://datasets/a/b", "huggingface_hub"),
    ],
)  # fmt: skip
def test_the_package_of_a_store_that_is_not_installed_is_named(
    address: str, package: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    scheme = address.partition(":")[0]
    loaded = sys.modules["fsspec.registry"].__dict__["_registry"]
    monkeypatch.delitem(loaded, scheme, raising=False)
    with pytest.raises(ValueError, match=f"^{scheme}:// needs {package}: pip install {package}$"):
        open_source(address)
    assert not list((home / "copies").iterdir())
