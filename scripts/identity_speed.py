"""Times how a data set is recognised: fingerprint and marks of many records, and finding those that
other ledgers know.

python scripts/identity_speed.py --records 60000 1000000

Random grey images in memory; seconds are CPU time of one process. "read" is the pass over the
records alone, "fingerprint" that pass with the fingerprint, "both" with fingerprint and marks.
"""

from __future__ import annotations

import argparse
import hmac
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dpgen.data.formats.records import array_records
from dpgen.data.identity import identify
from dpgen.data.sources import RecordSource
from dpgen.privacy.ledger.marks import MarksFile, n_shared

KEY = bytes(32)


def source_of(n: int, side: int) -> RecordSource:
    pixels = np.random.default_rng(0).integers(0, 256, (n, side, side, 1), dtype=np.uint8)
    classes = tuple("0123456789")
    records = array_records("random", pixels, np.arange(n) % 10, classes, "images")
    return RecordSource(records, None, None)


def read(records: Iterator[tuple[np.ndarray, int]]) -> None:
    for _ in records:
        pass


def fingerprint_alone(records: Iterator[tuple[np.ndarray, int]]) -> bytes:
    marks = []
    for pixels, label in records:
        head = f"{pixels.shape}:{label}:".encode()
        marks.append(hmac.digest(KEY, head + np.ascontiguousarray(pixels).tobytes(), "sha256"))
    return hmac.digest(KEY, b"".join(sorted(marks)), "sha256")


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    value = call()
    return time.process_time() - start, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--records", type=int, nargs="+", default=[60_000, 1_000_000])
    parser.add_argument("--side", type=int, default=28, help="pixels")
    given = parser.parse_args()
    print(f"{'records':>10}{'read':>8}{'fingerprint':>13}{'both':>8}{'write':>8}{'find':>8}  bytes")
    for n in given.records:
        print(row(source_of(n, given.side)), flush=True)


def row(source: RecordSource) -> str:
    read_s, _ = timed(lambda: read(source.raw_records()))
    alone, _ = timed(lambda: fingerprint_alone(source.raw_records()))
    both, identity = timed(lambda: identify(source, KEY))
    with tempfile.TemporaryDirectory() as folder:
        file = MarksFile(Path(folder) / "one.marks")
        write, _ = timed(lambda: file.add("one.jsonl", identity.marks))
        find, found = timed(lambda: n_shared(identity.marks, file.read().all))
        size = file.path.stat().st_size
    assert found == len(identity.marks)
    return (
        f"{len(source):>10}{read_s:>8.2f}{alone:>13.2f}{both:>8.2f}"
        f"{write:>8.2f}{find:>8.2f}  {size}"
    )


if __name__ == "__main__":
    main()
