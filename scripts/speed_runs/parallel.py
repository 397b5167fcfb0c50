"""Measures images per second of one and of two processes, as `dpgen sample --jobs` draws."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch

from dpgen.data.private import PrivateDataset
from dpgen.data.sources import open_source
from dpgen.generator.draw import Draw
from dpgen.generator.drawing import block_size
from dpgen.images.images import Images
from dpgen.methods.dpdm import DPDM, DPDMSettings
from dpgen.privacy.accounting.accountant import Budget
from dpgen.runs.context import Hardware
from dpgen.stages.teacher import TeacherSettings
from dpgen.storage.canonical import digest
from dpgen.synthetic.processes import Work, drawn_by
from speed_runs.bench import Bench

JOBS = (1, 2)
N_BLOCKS = {"cpu": 40, "cuda": 400}
N_WARM = 8  # blocks that are not counted: a process that starts first draws a few ahead


def parallel(bench: Bench) -> None:
    """Measures wall seconds from the block after `N_WARM` to the last, in turns.

    The start of the processes, some seconds, is left out: it does not grow with the set.
    """
    n_blocks = N_BLOCKS[bench.device.type]
    with tempfile.TemporaryDirectory() as folder:
        generator = fitted(Path(folder) / "run")
        size = block_size((1, 8, 8))
        labels = torch.arange(n_blocks * size) % 3
        mark = digest(generator.document.content)
        work = Work(Path(folder) / "run", mark, Draw(device="auto"), labels, 0, False)
        found: dict[int, list[float]] = {jobs: [] for jobs in JOBS}
        for _ in range(bench.rounds):
            for jobs in JOBS:
                found[jobs].append(_images_a_second(jobs, work, n_blocks))
    for jobs in JOBS:
        rounds = zip(found[jobs], found[1], strict=True)
        ratios = sorted(own / alone for own, alone in rounds)
        bench.add(
            "parallel", work="sampling", jobs=jobs, images=(n_blocks - N_WARM) * size,
            wall_images_a_second=sorted(found[jobs])[len(ratios) // 2],
            over_one=[ratios[len(ratios) // 2], ratios[0], ratios[-1]],
        )  # fmt: skip


def _images_a_second(jobs: int, work: Work, n_blocks: int) -> float:
    with drawn_by(jobs, work, range(n_blocks)) as blocks:
        for _ in range(N_WARM):
            next(blocks)
        start = time.perf_counter()
        n_images = sum(len(block) for block in blocks)
        return n_images / (time.perf_counter() - start)


def fitted(run: Path, side: int = 8) -> DPDM:
    """Returns a generator of the preset tiny after one private step on public noise."""
    pixels = torch.rand(30, 1, side, side, generator=torch.Generator().manual_seed(0))
    source = open_source(Images(pixels, torch.arange(30) % 3), classes=3)
    teacher = TeacherSettings(
        warm_start_share=0.5, n_steps=1, n_draws=1, batch=10, bands=3, clip_norm=0.05,
        preset="tiny",
    )
    method = DPDM(
        budget=Budget(0.3, 1e-3), settings=DPDMSettings(teacher=teacher, sampling_steps=4)
    )
    data = PrivateDataset(source, public=True)
    return method.fit(data, out=run, seed=0, hardware=Hardware("cpu"))
