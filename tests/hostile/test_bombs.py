"""What promises or unpacks to gigabytes is refused by name, in 300 MiB and a few seconds."""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dpgen.benchmark.schedule import BenchmarkSettings
from dpgen.data.sources import open_source
from dpgen.evaluation.feature_cache import FeatureCache
from dpgen.evaluation.inception import inception
from dpgen.images.images import PublicFacts
from dpgen.privacy.ledger.privacy_ledger import PrivacyLedger
from dpgen.privacy.statements.certificate import read_statement
from dpgen.privacy.statements.notice import read_notice
from dpgen.runs.checkpoint import Checkpoints
from dpgen.runs.folder import RunFolder
from dpgen.runs.released import load_network
from tests.hostile import bombs
from tests.hostile.bombs import GIB
from tests.hostile.children import in_child

Build = Callable[[Path], Callable[[], object]]  # makes the file, returns what reads it


def opened(path: Path, content: bytes) -> Callable[[], object]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return lambda: open_source(path.parent)


def idx(folder: Path) -> Callable[[], object]:
    head = b"\0\0\x08\x03" + (2**20).to_bytes(4) + (32).to_bytes(4) * 2
    (folder / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + (1).to_bytes(4) + b"\0")
    return opened(folder / "train-images-idx3-ubyte.gz", bombs.gzipped_zeros(GIB, head))


def npz(folder: Path) -> Callable[[], object]:
    head = bombs.array_header((2**20, 32, 32))
    packed = bombs.deflated(b"\0", GIB, head)
    return opened(folder / "a.npz", bombs.zipped("images.npy", packed, GIB + len(head)))


def npz_header(folder: Path) -> Callable[[], object]:
    head = b"\x93NUMPY\2\0" + (GIB - 1).to_bytes(4, "little") + b"{"
    packed = bombs.deflated(b" ", GIB, head)
    return opened(folder / "a.npz", bombs.zipped("images.npy", packed, GIB + len(head)))


def npz_directory(folder: Path) -> Callable[[], object]:
    end = b"PK\5\6" + bytes(8) + (GIB - 100).to_bytes(4, "little") + bytes(6)
    bombs.sparse(folder / "a.npz", GIB, b"PK\3\4", end)
    return lambda: open_source(folder)


def png(folder: Path) -> Callable[[], object]:
    return opened(folder / "a" / "a.png", bombs.black_png(9000, 9000))


def large_picture(folder: Path) -> Callable[[], object]:
    (folder / "a").mkdir()
    bombs.sparse(folder / "a" / "a.png", 2**40, b"\x89PNG\r\n\x1a\n")
    return lambda: open_source(folder)


def jpeg_scans(folder: Path) -> Callable[[], object]:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("L", (2000, 2000), 128).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    return opened(folder / "a" / "a.jpg", data[:-2] + last * 5000 + data[-2:])


def tar_header(folder: Path) -> Callable[[], object]:
    head = bombs.member("x", tarfile.XHDTYPE, GIB).tobuf(tarfile.GNU_FORMAT)
    bombs.sparse(folder / "a.tar", 2 * GIB, head)
    return lambda: open_source(folder)


def tar_label(folder: Path) -> Callable[[], object]:
    head = bombs.member("x.json", size=GIB).tobuf(tarfile.GNU_FORMAT)
    bombs.sparse(folder / "a.tar", GIB + 2048, head)
    return lambda: open_source(folder)


def tar_picture(folder: Path) -> Callable[[], object]:
    head = bombs.member("x.png", size=GIB).tobuf(tarfile.GNU_FORMAT)
    bombs.sparse(folder / "a.tar", GIB + 2048, head)
    return lambda: open_source(folder)


def tar_chain(folder: Path) -> Callable[[], object]:
    links = [(bombs.member("@", tarfile.GNUTYPE_LONGNAME), b"name\0")] * 5000
    return opened(folder / "a.tar", bombs.shard(*links, (bombs.member("x.png"), b"")))


def parquet(folder: Path) -> Callable[[], object]:
    """One picture of 64 KiB, which a dictionary repeats 4000 times."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    picture = pa.struct([("bytes", pa.binary())])
    schema = pa.schema([("image", picture), ("label", pa.int64())])
    once = pa.array([os.urandom(2**16)], pa.binary())
    with pq.ParquetWriter(folder / "a.parquet", schema) as writer:
        for _ in range(4):
            column = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), once)
            rows = pa.StructArray.from_arrays([column.cast(pa.binary())], fields=list(picture))
            columns = [rows, pa.array([0] * 1000, pa.int64())]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    return lambda: open_source(folder)


def class_list(folder: Path) -> Callable[[], object]:
    (folder / "a").mkdir()
    (folder / "a" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    bombs.sparse(folder / "dataset.json", GIB)
    return lambda: open_source(folder)


def facts(folder: Path) -> Callable[[], object]:
    path = bombs.sparse(folder / "facts.toml", GIB)
    return lambda: PublicFacts.load(path)


def slow_toml(folder: Path) -> Callable[[], object]:
    (folder / "b.toml").write_text(".".join("a" * 100_000) + " = 1")
    return lambda: BenchmarkSettings.load(folder / "b.toml")


def statement(folder: Path) -> Callable[[], object]:
    bombs.sparse(folder / "privacy.json", GIB)
    return lambda: read_statement(folder)


def notice(folder: Path) -> Callable[[], object]:
    bombs.sparse(folder / "notice.json", GIB)
    return lambda: read_notice(folder)


def ledger(folder: Path) -> Callable[[], object]:
    path = bombs.sparse(folder / "ledger.jsonl", GIB)
    return lambda: PrivacyLedger(path).lines()


def head(folder: Path) -> Callable[[], object]:
    (folder / "ledger.jsonl").write_bytes(b"")
    bombs.sparse(folder / "ledger.jsonl.head", GIB)
    return lambda: PrivacyLedger(folder / "ledger.jsonl").lines()


def run_state(folder: Path) -> Callable[[], object]:
    (folder / "checkpoint").mkdir()
    bombs.sparse(folder / "checkpoint" / "run.json", GIB)
    return lambda: RunFolder(folder, {})


def seed(folder: Path) -> Callable[[], object]:
    bombs.sparse(folder / "config.json", GIB)
    return lambda: RunFolder.seed_of(folder)


def network(folder: Path) -> Callable[[], object]:
    path = bombs.sparse(folder / "a.safetensors", 2**40, (2**30).to_bytes(8, "little"))
    return lambda: load_network(path)


def network_header(folder: Path) -> Callable[[], object]:
    path = bombs.sparse(folder / "a.safetensors", GIB, (GIB - 8).to_bytes(8, "little"))
    return lambda: load_network(path)


def checkpoint(folder: Path) -> Callable[[], object]:
    bombs.sparse(folder / "a.safetensors", GIB, (GIB - 8).to_bytes(8, "little"))
    return lambda: Checkpoints(folder).load("a")


def weights(folder: Path) -> Callable[[], object]:
    path = bombs.sparse(folder / "weights.pth", 2**40)
    return lambda: inception(path)


REFUSED: list[tuple[Build, str]] = [
    (idx, r"gz must unpack to at most 200 times its \d+ bytes, its header promises 1024 MiB"),
    (npz, r"a\.npz: images must unpack to at most 200 times its \d+ bytes"),
    (npz_header, r"a\.npz: images must have a header of at most 10000 bytes"),
    (npz_directory, r"a\.npz must have headers of at most 1048576 bytes"),
    (png, r"a\.png must unpack to at most 200 times its \d+ bytes.*make it smaller"),
    (large_picture, r"a\.png must have at most 134217728 bytes, got 1099511627776"),
    (jpeg_scans, r"a\.jpg must have at most 32 scans"),
    (tar_header, r"a\.tar must have headers of at most 1048576 bytes"),
    (tar_label, r"a\.tar: x\.json must have at most 1048576 bytes, got 1073741824"),
    (tar_picture, r"a\.tar: x\.png must have at most 134217728 bytes, got 1073741824"),
    (tar_chain, r"a\.tar is damaged or truncated"),
    (parquet, r"a\.parquet must unpack to at most 64 MiB, it needs more: export it"),
    (class_list, r"dataset\.json must have at most 67108864 bytes, got 1073741824"),
    (facts, r"facts\.toml must have at most 1048576 bytes"),
    (slow_toml, r"b\.toml must have fewer dots on a line"),
    (statement, r"privacy\.json has 1073741824 bytes, a statement has at most"),
    (notice, r"notice\.json is no notice \(.*must have at most"),
    (ledger, r"ledger\.jsonl must have at most 8388608 bytes"),
    (head, r"head file .* is damaged"),
    (run_state, r"run\.json must have at most 1048576 bytes"),
    (seed, r"config\.json must have at most 1048576 bytes"),
    (network, r"a\.safetensors must be a safetensors file: it must have at most 1073741824 bytes"),
    (network_header, r"a\.safetensors must be a safetensors file: its header must have 2 to"),
    (checkpoint, r"checkpoint .*a\.safetensors is damaged .*its header must have 2 to"),
    (weights, r"weights\.pth must have at most 134217728 bytes"),
]


@pytest.mark.parametrize(("build", "message"), REFUSED, ids=lambda x: getattr(x, "__name__", ""))
def test_gigabytes_are_refused_by_name(tmp_path: Path, build: Build, message: str) -> None:
    outcome = in_child(build(tmp_path))
    assert outcome.refused, outcome.message
    assert re.search(message, outcome.message), outcome.message


def test_a_cache_of_gigabytes_counts_as_none(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    bombs.sparse(cache.path({"a": 1}), GIB, (GIB - 8).to_bytes(8, "little"))

    def load() -> None:
        with pytest.warns(UserWarning, match="is damaged"):
            assert cache.load({"a": 1}) is None

    outcome = in_child(load)
    assert outcome.error == "", outcome.message


def test_a_black_set_is_no_bomb(tmp_path: Path) -> None:
    """Up to 64 MiB nothing is asked: 20 MiB of zeros pack a thousandfold."""
    np.savez_compressed(tmp_path / "black.npz", images=np.zeros((20, 1024, 1024), np.uint8))
    assert (tmp_path / "black.npz").stat().st_size < 2**20 / 20
    assert len(open_source(tmp_path / "black.npz")) == 20
