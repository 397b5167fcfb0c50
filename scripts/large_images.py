"""Measures private training on larger images: seconds per noised record, and peak memory.

    python scripts/large_images.py --sides 64 128 256

Times one micro-batch of the default PGE on random RGB images, in a fresh process for each size, and
counts the operations of its network. The last two columns are arithmetic, not runs: expected
records of all steps of the default settings, at the seconds measured here, and at the operations a
second that `--tflops` assumes of a GPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import torch
from torch.utils.flop_counter import FlopCounterMode

from dpgen import PGE, Budget, Hardware, PGESettings, PublicFacts
from dpgen.networks.denoiser import Denoiser
from dpgen.stages.teacher import TeacherSettings, untrained


def measure(side: int, n_draws: int | None, micro_batch: int) -> None:
    facts = PublicFacts((3, side, side), ("a", "b"), 60_000, "add_remove", origin="stated")
    settings = PGESettings(teacher=TeacherSettings(n_draws=n_draws))
    generator = PGE(budget=Budget(10, 1e-6), settings=settings)
    teacher = generator.resolve(facts).teacher
    found = generator.rehearse(facts, Hardware("auto", micro_batch=micro_batch))
    n_records = teacher.n_steps * teacher.batch
    flops = teacher.n_draws * counted(untrained(teacher, facts, 0), side)
    line = {
        "side": side, "preset": teacher.preset, "n_parameters": found.n_parameters,
        "n_draws": teacher.n_draws, "device": found.device, "micro_batch": micro_batch,
        "seconds_per_record": found.seconds / n_records,
        "peak_gib": found.memory_bytes / 2**30, "n_records": n_records,
        "days": found.seconds / 86_400, "tflop_per_record": flops / 1e12,
    }  # fmt: skip
    print(json.dumps(line))


def counted(denoiser: Denoiser, side: int) -> int:
    """Counts the floating-point operations of one draw: forward and backward of one image."""
    with FlopCounterMode(display=False) as counter:
        x, sigma = torch.randn(1, 3, side, side), torch.ones(1)
        denoiser(x, sigma, torch.zeros(1, dtype=torch.int64)).square().sum().backward()
    return counter.get_total_flops()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--draws", type=int, help="noise multiplicity J; the preset's by default")
    parser.add_argument("--micro-batch", type=int, default=1)
    parser.add_argument("--tflops", type=float, default=50.0, help="sustained by a GPU, assumed")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        measure(args.one, args.draws, args.micro_batch)
        return
    print("| side | parameters | J | s / record | TFLOP / record | peak memory "
          f"| default run on this machine | at {args.tflops:g} TFLOP/s |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for side in args.sides:
        command = [sys.executable, __file__, "--one", str(side)]
        command += ["--micro-batch", str(args.micro_batch)]
        command += ["--draws", str(args.draws)] if args.draws else []
        run = subprocess.run(command, check=True, capture_output=True, text=True)
        row = json.loads(run.stdout)
        print(
            f"| {side} | {row['n_parameters'] / 1e6:.2f} M | {row['n_draws']} "
            f"| {row['seconds_per_record']:.2f} | {row['tflop_per_record']:.2f} "
            f"| {row['peak_gib']:.1f} GiB "
            f"| {row['n_records'] / 1e6:.1f} M records x {row['seconds_per_record']:.2f} s = "
            f"{row['days']:.0f} days ({row['device']}, estimated) "
            f"| {row['n_records'] * row['tflop_per_record'] / args.tflops / 86_400:.1f} days |",
            flush=True,
        )


if __name__ == "__main__":
    main()
