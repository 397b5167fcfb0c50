"""Measures the writing of large sets: peak memory by number of images, and time over that of a
plain write of as many bytes. Drawn are a few blocks, which are written again and again: the drawing
of a million images would take most of the time and is measured elsewhere.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpgen.generator.draw import Draw
from dpgen.generator.drawing import block_size
from dpgen.images.images import Images
from dpgen.synthetic.synthesise import synthesise
from speed_runs.bench import Bench
from speed_runs.parallel import fitted
from speed_runs.steps import forget_peak, held

SIDE, N_DRAWN = 28, 2  # blocks that are drawn
CASES = [("npz", 200_000), ("npz", 1_000_000), ("webdataset", 5_000), ("parquet", 5_000)]
CHUNK = 200_000  # bytes of a plain write at a time: a block of images


def streaming(bench: Bench) -> None:
    """Measures each case in a process of its own, with certificate, hashes and pages."""
    for layout, n_images in CASES:
        command = [sys.executable, str(Path(__file__).parents[1] / "speed.py"), "--stream"]
        said = subprocess.run(
            [*command, layout, str(n_images)], check=True, text=True, stdout=subprocess.PIPE
        ).stdout
        bench.add("streamed", layout=layout, side=SIDE, **json.loads(said.splitlines()[-1]))


def stream_here(layout: str, n_images: int) -> dict[str, Any]:
    """Writes a set as `dpgen sample` does, and as many bytes plainly; returns what both took."""
    with tempfile.TemporaryDirectory() as folder:
        run, out = Path(folder) / "run", Path(folder) / "set"
        generator = fitted(run, SIDE)
        size = block_size((1, SIDE, SIDE))
        drawn = generator.sample(N_DRAWN * size, generator=torch.Generator().manual_seed(0)).pixels

        def blocks(
            own: object, n: int, draw: object, *, labels: Tensor, **_: object
        ) -> Iterator[Images]:
            for first in range(0, n, size):
                start, n_here = first % len(drawn), min(size, n - first)
                yield Images(drawn[start : start + n_here], labels[first : first + n_here])

        type(generator).sample_blocks = blocks  # type: ignore[assignment, method-assign]

        def write(n: int, where: Path) -> None:
            synthesise(run, n, where, Draw(device="cpu"), layout=layout, seed=0, show=False)

        write(2_000, Path(folder) / "first")  # imports and caches
        before = held("VmRSS")
        forget_peak()
        used = time.process_time()
        seconds = _seconds(lambda: write(n_images, out))
        used = time.process_time() - used
        peak = held("VmHWM") - before
        sizes = [path.stat().st_size for path in out.rglob("*") if path.is_file()]
        plainly = _seconds(lambda: _write_plainly(sizes, Path(folder) / "plain"))
    return {
        "images": n_images, "mib": sum(sizes) / 2**20, "peak_mib": peak / 2**20,
        "images_a_second": n_images / seconds, "cpu_us_an_image": 1e6 * used / n_images,
        "time_over_plain_write": seconds / plainly,
    }  # fmt: skip


def _seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _write_plainly(sizes: Sequence[int], folder: Path) -> None:
    """Writes files of these sizes, to the disk."""
    folder.mkdir()
    content = os.urandom(CHUNK)
    for number, n_bytes in enumerate(sizes):
        with (folder / str(number)).open("wb") as file:
            for first in range(0, n_bytes, CHUNK):
                file.write(content[: n_bytes - first])
            os.fsync(file.fileno())
