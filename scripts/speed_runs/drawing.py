"""Measures images per second: students of one, two and four steps against a teacher's 250, and
writing to disk.
"""

from __future__ import annotations

import copy
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from dpgen.data.export import write_images
from dpgen.generator.drawing import Drawing, draw_blocks
from dpgen.networks.denoiser import Denoiser
from samplers import DDIM, Annealed, Geometric, Sampler
from speed_runs.bench import Bench, over
from speed_runs.steps import preset

STEPS = (1, 2, 4, 250)
FORWARD = {"cpu": 64, "cuda": 4096}
WRITTEN = {"cpu": 1_000, "cuda": 60_000}


def sampler(n_steps: int) -> Sampler:
    return Annealed(Geometric(n_steps, 0.02, 20.0), transport=DDIM(eta=0.0))


def network(bench: Bench) -> Denoiser:
    torch.manual_seed(0)
    return Denoiser(preset("small", 28)).to(bench.device).eval()


def drawing(bench: Bench) -> None:
    """Measures images per second by number of steps, in one run."""
    denoiser = network(bench)
    n = {s: 2048 if bench.on_gpu else 256 if s <= 4 else 8 for s in STEPS}

    def run(n_steps: int) -> None:
        labels = torch.arange(n[n_steps], device=bench.device) % 10
        noise = torch.randn(n[n_steps], 1, 28, 28, device=bench.device)
        with torch.no_grad():
            own = torch.Generator(device=bench.device).manual_seed(0)
            sampler(n_steps)(denoiser.score_fn(labels), noise, generator=own)

    found = bench.race({str(s): lambda s=s: run(s) for s in STEPS})
    a_second = {s: [n[s] / t for t in found[str(s)]] for s in STEPS}
    for s in STEPS:
        rounds = zip(a_second[s], a_second[250], strict=True)
        ratios = sorted(own / teacher for own, teacher in rounds)
        bench.add(
            "sampling", steps=s, images=n[s], images_a_second=sorted(a_second[s])[len(ratios) // 2],
            over_250=[ratios[len(ratios) // 2], ratios[0], ratios[-1]],
        )  # fmt: skip


def precision(bench: Bench) -> None:
    """Measures the network alone in bfloat16 and with channels last, over float32 as it draws now,
    and how far its output then is from that of float32. What images lose by it is not measured.
    """
    n = FORWARD[bench.device.type]
    torch.manual_seed(0)
    x = torch.randn(n, 1, 28, 28, device=bench.device)
    sigma, labels = torch.ones(n, device=bench.device), torch.arange(n, device=bench.device) % 10
    plain = network(bench)
    # It is zero in a new network, whose output would be the same in any precision.
    torch.nn.init.normal_(plain.unet.get_submodule("conv_out").weight, std=0.05)
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)

    def run(denoiser: Denoiser, half: bool) -> Tensor:
        given = x.to(memory_format=torch.channels_last) if denoiser is last else x
        with torch.no_grad(), torch.autocast(bench.device.type, torch.bfloat16, enabled=half):
            found: Tensor = denoiser(given, sigma, labels)
        return found.float()

    runners = {
        "float32": lambda: run(plain, False), "channels_last": lambda: run(last, False),
        "bf16": lambda: run(plain, True), "bf16, channels_last": lambda: run(last, True),
    }  # fmt: skip
    truth = runners["float32"]()
    found = bench.race(runners)
    for name, runner in runners.items():
        bench.add(
            "precision", computes=name, images=n, time_over_float32=over(found, name, "float32"),
            error=float((runner() - truth).norm() / truth.norm()),
        )  # fmt: skip


def writing(bench: Bench) -> None:
    """Measures drawing and writing a student's images, as `dpgen sample` does."""
    denoiser, n = network(bench), WRITTEN[bench.device.type]
    names = [str(k) for k in range(10)]
    for layout in ("npz", "folder"):
        with tempfile.TemporaryDirectory() as folder:
            drawing = Drawing(denoiser, sampler(4), device=bench.device)
            start = time.perf_counter()
            blocks = draw_blocks(drawing, torch.arange(n) % 10, 0)
            write_images(blocks, Path(folder) / "images", format=layout, n_images=n,  # type: ignore[arg-type]
                         class_names=names)  # fmt: skip
            seconds = time.perf_counter() - start
        bench.add("written", layout=layout, steps=4, images=n, wall_seconds=seconds)
