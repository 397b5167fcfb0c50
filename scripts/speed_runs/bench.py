"""The measuring tools of all sections: one clock, runs in turns, rows that are written at once."""

from __future__ import annotations

import gc
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch


@dataclass
class Bench:
    """The clock and the rows of a benchmark.

    Args:
        device: the device that is measured.
        rounds: number of runs of each runner in a race.
        out: JSON file, written after every row.
    """

    device: torch.device
    rounds: int
    out: Path | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def add(self, section: str, **numbers: Any) -> None:  # noqa: ANN401
        row = {"section": section, **{k: _short(v) for k, v in numbers.items()}}
        self.rows.append(row)
        print(json.dumps(row), flush=True)
        if self.out is not None:
            found = {"machine": self.machine(), "rows": self.rows}
            self.out.write_text(json.dumps(found, indent=1) + "\n")

    def machine(self) -> dict[str, Any]:
        return {
            "device": torch.cuda.get_device_name() if self.on_gpu else _processor(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "clock": "wall seconds" if self.on_gpu else "CPU seconds of the process",
            "rounds": self.rounds,
        }

    def wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()

    def seconds(self, run: Callable[[], object]) -> float:
        """Measures the seconds of one run; on a CPU those of this process, as others may use it."""
        clock = time.perf_counter if self.on_gpu else time.process_time
        self.wait()
        start = clock()
        run()
        self.wait()
        return clock() - start

    def race(self, runners: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
        """Measures the seconds of every runner in every round, in turns, after a run to warm up."""
        for run in runners.values():
            run()
        found: dict[str, list[float]] = {name: [] for name in runners}
        for _ in range(self.rounds):
            for name, run in runners.items():
                gc.collect()
                found[name].append(self.seconds(run))
        return found


def over(found: Mapping[str, list[float]], name: str, base: str) -> list[float]:
    """Returns [median, smallest, largest] of the ratio of two runners, round by round."""
    ratios = [a / b for a, b in zip(found[name], found[base], strict=True)]
    return [statistics.median(ratios), min(ratios), max(ratios)]


def _short(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, list):
        return [_short(v) for v in value]
    return {k: _short(v) for k, v in value.items()} if isinstance(value, dict) else value


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()
