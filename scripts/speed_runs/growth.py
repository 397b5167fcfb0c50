"""Measures how time and memory of a private step grow with records, image side and parameters."""

from __future__ import annotations

import statistics

from dpgen.networks.denoiser import DenoiserConfig
from speed_runs.bench import Bench
from speed_runs.steps import Case, peak, preset

DRAWS = 4
RECORDS = (2, 8, 32)
SIDES = (16, 32, 64)
PRESETS = ("quick", "small", "base")


def growth(bench: Bench) -> None:
    scale = 16 if bench.on_gpu else 1
    for n in RECORDS:
        measure(bench, "records", "small", 28, n * scale)
    for side in SIDES:
        measure(bench, "side", "small", side, 4 * scale)
    for name in PRESETS:
        measure(bench, "parameters", name, 32, 4 * scale)


def measure(bench: Bench, what: str, name: str, side: int, n_records: int) -> None:
    config: DenoiserConfig = preset(name, side)
    case = Case(config, DRAWS, n_records * DRAWS, bench.device)
    seconds = statistics.median(bench.race({"layers": case.private})["layers"])
    bench.add(
        "growth", along=what, preset=name, side=side, draws=DRAWS, records=n_records,
        parameters=case.n_parameters, ms_an_image=1e3 * seconds / case.n_images,
        mib=peak(bench, "layers", name, side, DRAWS, n_records * DRAWS) / 2**20,
    )  # fmt: skip
