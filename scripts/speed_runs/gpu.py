"""Measures whole private steps on a GPU, with their work on the host, against the card's limits."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dpgen.networks.denoiser import DenoiserConfig
from dpgen.privacy.mechanisms.declared import NoisySGD
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.privacy.mechanisms.question import Given, Question
from dpgen.privacy.mechanisms.row_sums import row_squares, weighted_sum
from dpgen.stages.micro_batch import records_at_once
from speed_runs.bench import Bench
from speed_runs.steps import Case

NETWORK = DenoiserConfig((1, 28, 28), 10, (32, 64, 80), 1, (2,), 8)  # 1.43 million parameters
N_RECORDS, BATCH, N_STEPS = 60_000, 4096, 3
CASES = [(8, "bf16"), (32, "bf16"), (8, "no"), (1, "bf16")]


class Records:
    """Made-up records of MNIST's size."""

    def __init__(self) -> None:
        self._pixels = torch.rand(N_RECORDS, 1, 28, 28) * 2 - 1
        self._labels = torch.arange(N_RECORDS) % 10

    @property
    def n_slots(self) -> int:
        return N_RECORDS

    def read(self, slots: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        return self._pixels[slots], self._labels[slots], torch.ones(len(slots), dtype=torch.bool)


def rates(bench: Bench) -> dict[str, float]:
    """Measures operations per second of a matrix product, and bytes per second of a copy."""
    found = {}
    for name, dtype in (("no", torch.float32), ("bf16", torch.bfloat16)):
        a = torch.randn(8192, 8192, device=bench.device, dtype=dtype)
        run = lambda a=a: a @ a  # noqa: E731
        found[name] = 2 * 8192**3 / statistics.median(bench.race({"product": run})["product"])
    held = torch.empty(2**30, device=bench.device, dtype=torch.uint8)
    other = torch.empty_like(held)
    copies = bench.race({"copy": lambda: other.copy_(held)})["copy"]
    bench.add("card", product_flops=found, copy_bytes=2 * 2**30 / statistics.median(copies))
    return found


def exact(bench: Bench) -> None:
    """Measures the errors of the engine on this card, and whether it is deterministic."""
    g = torch.randn(64, 70_001, device=bench.device)
    weights = torch.rand(64, device=bench.device, dtype=torch.float64)
    g[3], weights[3] = torch.inf, 0.0
    kept = weights > 0
    truth, squares = weights[kept] @ g[kept].double(), g[kept].double().square().sum(1)
    bench.add(
        "sums",
        squares_error=float((row_squares(g[kept]) / squares - 1).abs().max()),
        weighted_error=float((weighted_sum(weights, g) - truth).norm() / truth.norm()),
    )  # fmt: skip
    for precision in ("no", "bf16"):
        case = Case(NETWORK, 4, 128, bench.device, precision)
        loss, turn = case.objective.loss, torch.randperm(len(case.valid), device=bench.device)
        first, again = (loss.gradients(case.parameters, *case.batch) for _ in range(2))
        pixels, labels, draws = case.batch
        turned = loss.gradients(
            case.parameters, pixels[turn], labels[turn], {k: t[turn] for k, t in draws.items()}
        )
        spoilt = loss.gradients(
            case.parameters, pixels.index_fill(0, turn[:1], torch.nan), labels, draws
        )
        assert first is not None and again is not None
        assert turned is not None and spoilt is not None
        rest = turn[1:]
        bench.add(
            "exact", precision=precision, error_to_vmap=case.error(),
            twice=all(torch.equal(g, again[n]) for n, g in first.items()),
            anywhere_in_the_batch=all(torch.equal(g[turn], turned[n]) for n, g in first.items()),
            beside_nan=all(torch.equal(g[rest], spoilt[n][rest]) for n, g in first.items()),
        )  # fmt: skip


def gpu(bench: Bench) -> None:
    """Measures noised images per second of whole steps: coins, draws, gradients, sums, noise and
    division.
    """
    if not bench.on_gpu:
        raise SystemExit("--only gpu needs a GPU")
    products = rates(bench)
    exact(bench)
    records = Records()
    for n_draws, precision in CASES:
        step(bench, records, products[precision], n_draws, precision)
        torch.cuda.empty_cache()


def step(
    bench: Bench, records: Records, product_rate: float, n_draws: int, precision: str
) -> None:
    case = Case(NETWORK, n_draws, 2048, bench.device, precision)
    size = records_at_once(
        case.network, n_draws, BATCH, bench.device, half=precision == "bf16"
    )
    mechanism = NoisySGD(BATCH / N_RECORDS, N_STEPS, 2.0, N_RECORDS)
    noise = KeyedNoise(bytes(32), "speed")
    seconds, drawn = [], []
    torch.cuda.reset_peak_memory_stats()
    for release in mechanism.steps(
        records, noise, start=0, micro_batch=size, device=bench.device
    ):
        run = lambda r=release: r.gradient(case.objective, case.parameters)  # noqa: E731
        seconds.append(bench.seconds(run))
        drawn.append(n_draws * len(release._slots))
    rate = statistics.median(n / t for n, t in list(zip(drawn, seconds, strict=True))[1:])
    with FlopCounterMode(display=False) as counter:
        case.plain()
    flops = counter.get_total_flops() / case.n_images
    plain = statistics.median(bench.race({"plain": case.plain})["plain"])
    bench.add(
        "gpu", draws=n_draws, precision=precision, parameters=case.n_parameters, batch=BATCH,
        micro_batch=size, images_a_second=rate, plain_images_a_second=case.n_images / plain,
        flops_an_image=flops, share_of_product_rate=rate * flops / product_rate,
        peak_gib=torch.cuda.max_memory_allocated() / 2**30,
        host_ms_a_step=host(bench, case, noise, mechanism), step_ms=1e3 * seconds[-1],
    )  # fmt: skip


def host(
    bench: Bench, case: Case, noise: KeyedNoise, mechanism: NoisySGD
) -> dict[str, float]:
    """Measures the milliseconds of each part of the host's work in a step, without kernel launches.
    """
    totals = {n: torch.zeros_like(p, dtype=torch.float64) for n, p in case.parameters.items()}
    slots = np.arange(BATCH)

    def ms(run: Callable[[], object]) -> float:
        bench.wait()
        start = time.perf_counter()
        run()
        bench.wait()
        return 1e3 * (time.perf_counter() - start)

    return {
        "question": ms(
            lambda: Question.of(
                mechanism=mechanism, objective=case.objective, parameters=Given(case.parameters)
            )
        ),
        "coins": ms(lambda: noise.coins(N_RECORDS, mechanism.rate, release=0)),
        "draws": ms(
            lambda: case.objective.draw(noise.draws(slots, release=0, device=bench.device))
        ),
        "noise": ms(
            lambda: [noise.add(t, 1.0, release=0, name=n) for n, t in totals.items()]
        ),
    }
