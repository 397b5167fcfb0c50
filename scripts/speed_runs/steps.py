"""Measures a private step against a plain one: forward, mean loss and backward on the same noised
images, without clip, noise or optimizer in either.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from dpgen.networks.denoiser import Denoiser, DenoiserConfig
from dpgen.privacy.mechanisms.clipping import add_clipped, zero_sum
from dpgen.privacy.mechanisms.draws import KEY_BYTES, Draws
from dpgen.privacy.mechanisms.gradients import per_record_gradients
from dpgen.stages.denoising import DenoisingObjective
from dpgen.training.denoising import NoiseLevels
from speed_runs.bench import Bench, over

# One micro-batch: (preset, side, draws, noised images).
CASES = [
    ("small", 28, 1, 32), ("small", 28, 8, 64), ("small", 28, 32, 128),
    ("tiny", 8, 1, 128), ("tiny", 8, 8, 512), ("tiny", 8, 32, 512),
]  # fmt: skip
ON_GPU = 4096  # noised images of a micro-batch there


class Case:
    """A network, records and their draws.

    Args:
        config: configuration of the network.
        n_draws: draws per record.
        n_images: number of noised images: records times draws.
        device: device of the computation.
        precision: as for `Hardware`.
    """

    def __init__(
        self, config: DenoiserConfig, n_draws: int, n_images: int, device: torch.device,
        precision: str = "no",
    ) -> None:  # fmt: skip
        torch.manual_seed(0)
        self.network = Denoiser(config).to(device)
        # It is zero in a new network, so every gradient but the last layer's would be zero.
        nn.init.normal_(self.network.unet.get_submodule("conv_out").weight, std=0.05)
        self.objective = DenoisingObjective(
            self.network, NoiseLevels(n_draws=n_draws), precision=precision
        )
        self.parameters = {n: p.detach() for n, p in self.network.named_parameters()}
        self.n_parameters = sum(p.numel() for p in self.parameters.values())
        n = max(1, n_images // n_draws)
        draws = self.objective.draw(Draws(bytes(KEY_BYTES), np.arange(n), device))
        pixels = torch.rand(n, *config.shape, device=device) * 2 - 1
        labels = torch.arange(n, device=device) % config.n_classes
        self.batch: tuple[Tensor, Tensor, dict[str, Tensor]] = pixels, labels, draws
        self.valid = torch.ones(n, dtype=torch.bool, device=device)
        self.half = torch.bfloat16 if precision == "bf16" else torch.float32

    @property
    def n_images(self) -> int:
        return int(self.batch[2]["sigma"].numel())

    def plain(self) -> None:
        self.network.zero_grad(set_to_none=True)
        held = {n: p.to(self.half) for n, p in self.network.named_parameters()}

        def call(*given: Tensor) -> Tensor:
            found: Tensor = functional_call(self.network, held, given)
            return found

        self.objective.losses(call, *self.batch).mean().backward()

    def private(self) -> dict[str, Tensor]:
        return self._clipped(self.objective.loss)

    def vmap(self) -> dict[str, Tensor]:
        return self._clipped(lambda *given: self.objective.loss(*given))

    def _clipped(self, loss: Callable[..., Tensor]) -> dict[str, Tensor]:
        total = zero_sum(self.parameters)
        add_clipped(total, loss, self.parameters, self.batch, self.valid, 1.0)
        return total

    def error(self) -> float:
        """Computes the largest difference of a record's gradient from `vmap`'s, over its norm."""
        loss = self.objective.loss
        found = per_record_gradients(loss, self.parameters, self.batch)
        truth = per_record_gradients(lambda *g: loss(*g), self.parameters, self.batch)
        apart = sum((found[n] - g).double().flatten(1).square().sum(1) for n, g in truth.items())
        scale = sum(g.double().flatten(1).square().sum(1) for g in truth.values())
        return float((apart / scale).sqrt().max())  # type: ignore[operator, union-attr]


def preset(name: str, side: int) -> DenoiserConfig:
    return DenoiserConfig.preset(name, (1, side, side), 10)


def steps(bench: Bench) -> None:
    """Measures time and memory of the layer engine and of `vmap`, over those of the plain step."""
    for name, side, n_draws, n_images in CASES:
        n_images = ON_GPU if bench.on_gpu else n_images
        case = Case(preset(name, side), n_draws, n_images, bench.device)
        runners = {"plain": case.plain, "layers": case.private}
        if not bench.on_gpu:
            runners["vmap"] = case.vmap  # type: ignore[dict-item]
        found = bench.race(runners)
        peaks = {who: peak(bench, who, name, side, n_draws, n_images) for who in runners}
        for who in list(runners)[1:]:
            bench.add(
                "step", preset=name, side=side, draws=n_draws, images=case.n_images, engine=who,
                parameters=case.n_parameters, time_over_plain=over(found, who, "plain"),
                memory_over_plain=peaks[who] / peaks["plain"],
                plain_ms_an_image=1e3 * statistics.median(found["plain"]) / case.n_images,
                **({"error_to_vmap": case.error()} if who == "layers" and not bench.on_gpu else {}),
            )  # fmt: skip


def peak(bench: Bench, who: str, name: str, side: int, n_draws: int, n_images: int) -> int:
    """Measures the most bytes that one run takes beyond those that are held before it."""
    if bench.on_gpu:
        case = Case(preset(name, side), n_draws, n_images, bench.device)
        run = getattr(case, {"layers": "private"}.get(who, who))
        run()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    command = [sys.executable, str(Path(__file__).parents[1] / "speed.py"), "--peak"]
    command += [who, name, *map(str, (side, n_draws, n_images))]
    # Freed memory is returned at once, so that memory kept by the allocator does not count.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    said = subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout
    return int(json.loads(said))


def peak_here(who: str, name: str, side: int, n_draws: int, n_images: int) -> int:
    """Measures the same in a process of its own, whose peak Linux can reset."""
    case = Case(preset(name, side), n_draws, n_images, torch.device("cpu"))
    small = Case(preset(name, side), n_draws, n_draws, torch.device("cpu"))
    method = {"layers": "private"}.get(who, who)
    getattr(small, method)()
    if who == "layers":
        case.objective.loss.gradients(small.parameters, *small.batch)  # the check at the start
    case.network.zero_grad(set_to_none=True)
    before = held("VmRSS")
    forget_peak()
    getattr(case, method)()
    return held("VmHWM") - before


def forget_peak() -> None:
    """Lets VmHWM begin anew; Linux alone can."""
    Path("/proc/self/clear_refs").write_text("5")


def held(what: str) -> int:
    """Returns bytes that this process holds now, VmRSS, or has held at most, VmHWM."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(what))
