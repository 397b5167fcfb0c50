"""Lists the operators, or on a GPU the kernels, of a private and a plain micro-batch by time."""

from __future__ import annotations

from torch.profiler import ProfilerActivity, profile

from speed_runs.bench import Bench
from speed_runs.steps import Case, preset

N_WARM = 2  # runs before the one that is profiled
SHOWN = 12
# Preset, side, noised images of the micro-batch, by device.
CASES = {"cpu": ("small", 28, 32), "cuda": ("small", 28, 2048)}
DRAWS = (8, 1)


def operators(bench: Bench) -> None:
    """Profiles one micro-batch with 8 and 1 draws of a record, private and plain, and adds what
    takes most of its own time: the share of all, the number of calls and milliseconds.

    On a GPU these are kernels, by their time on the card; ``idle`` is the share of the time between
    the start and the end in which none runs, which is large where launches take longer than work.
    """
    name, side, n_images = CASES[bench.device.type]
    for n_draws in DRAWS:
        case = Case(preset(name, side), n_draws, n_images, bench.device, precision(bench))
        for who, run in (("plain", case.plain), ("private", case.private)):
            for _ in range(N_WARM):
                run()
            bench.wait()
            kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * bench.on_gpu
            with profile(activities=kinds) as found:
                seconds = bench.seconds(run)
            rows = [
                (row.key, row.count, row.self_device_time_total if bench.on_gpu
                 else row.self_cpu_time_total)
                for row in found.key_averages()
                if not bench.on_gpu or row.device_type.name == "CUDA"
            ]  # fmt: skip
            rows.sort(key=lambda row: -row[2])
            busy = sum(row[2] for row in rows)
            bench.add(
                "profile", preset=name, side=side, draws=n_draws, images=case.n_images, step=who,
                milliseconds=1e3 * seconds, kinds=len(rows), calls=sum(row[1] for row in rows),
                **({"idle": max(0.0, 1 - busy / 1e6 / seconds)} if bench.on_gpu else {}),
            )  # fmt: skip
            for key, count, microseconds in rows[:SHOWN]:
                bench.add(
                    "profile", draws=n_draws, step=who, operator=key[:80], calls=count,
                    share=microseconds / busy, milliseconds=microseconds / 1e3,
                )  # fmt: skip


def precision(bench: Bench) -> str:
    return "bf16" if bench.on_gpu else "no"
