"""Trains on MNIST and CIFAR-10 on one GPU, in legs of a few minutes, each a resume of the last.

    python scripts/gpu_legs.py mnist:dp-sad:10 mnist:dp-sad:1 --data data/ --minutes 8 --out legs

A row is DATASET:METHOD:EPSILON; DATASET is also the name of a folder below --data. The rows of one
call run side by side, each in a process of its own. A leg that ends before its row is finished
leaves an ordinary interrupted run (exit status 130): the same command goes on, on this machine or,
with --pack and --unpack, on another one, and pays nothing again. A finished run draws its samples
and judges them on the real test split, once for each sampler, and `OUT/rows.json` gets a row for
each: dp-sad gives its student's, and those of dpdm and pge on the same teacher, which is trained by
the same private stages. Records count as public here: the ledger lies in the run folder.

The sketch of a warm start is fitted on the CPU: `--until "label moments"` does that beforehand, on
a machine without a GPU, and stops.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from legs.archive import pack, unpack
from legs.judge import judged
from legs.recipes import CLASSES, hardware, recipe
from legs.row import Leg, Row
from legs.watch import Watch

from dpgen import Budget, open_images
from dpgen.generator.interface import PrivateGenerator
from dpgen.methods import find
from dpgen.settings import assign, from_dict, parse_assignment
from dpgen.storage.durable import replace_durably

INTERRUPTED = 130


def run(row: Row, leg: Leg) -> None:
    """Runs one leg of a row, in a process of its own: trains, and evaluates a finished run."""

    def stop(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(0.01, leg.deadline - time.time()))
    torch.set_num_threads(leg.threads)
    os.environ["DPGEN_HOME"] = str(leg.out / "home")
    try:
        generator, legs = trained(row, leg)
        judged(row, leg, generator, legs)
    except KeyboardInterrupt:
        print(f"{row.name}: stopped; the same command goes on", flush=True)
        sys.exit(INTERRUPTED)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def untrained(row: Row, leg: Leg) -> PrivateGenerator:
    """Makes the method with the recipe's settings."""
    kind, values = find(row.method), recipe(*row)
    for text in leg.assignments:
        assign(values, *parse_assignment(text))
    settings = from_dict(kind.Settings, values)
    return kind(budget=Budget(row.epsilon, leg.delta), settings=settings)  # type: ignore[no-any-return]


def trained(row: Row, leg: Leg) -> tuple[PrivateGenerator, list[dict[str, Any]]]:
    """Trains, and returns the generator and the duration of each leg of its training."""
    place = leg.out / row.name
    place.mkdir(parents=True, exist_ok=True)
    data = open_images(leg.data / row.dataset, public=True, classes=CLASSES[row.dataset])
    generator = untrained(row, leg)
    teacher = generator.resolve(data.facts).teacher
    watch = Watch(
        place / "run" / "checkpoint" / "state", row.name,
        (teacher.batch or 0) * (teacher.n_draws or 0), leg.until,
    )  # fmt: skip
    where, log = hardware(leg.device, teacher.n_draws), place / "legs.json"
    legs: list[dict[str, Any]] = json.loads(log.read_text()) if log.exists() else []
    finished, start = (place / "run" / "privacy.json").exists(), time.time()
    watch.start()
    try:
        generator.fit(data, out=place / "run", seed=leg.seed, hardware=where)
    finally:
        watch.stop()
        if not finished:
            on_gpu = where.accelerator().device.type == "cuda"
            legs.append({
                "seconds": time.time() - start,
                "steps": [step for _, step in watch.seen],
                "noised_images_per_second": watch.rate,
                "machine": torch.cuda.get_device_name() if on_gpu else "CPU",
                "threads": leg.threads,
                "torch": torch.__version__,
                "peak_gpu_gib": torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None,
                **asdict(where),
            })  # fmt: skip
            replace_durably(log, json.dumps(legs, indent=1).encode())
    return generator, legs


def collect(out: Path) -> list[Mapping[str, Any]]:
    """Collects the rows of all runs below a folder in one list, which is also written."""
    rows = [r for path in sorted(out.glob("*/rows.json")) for r in json.loads(path.read_text())]
    replace_durably(out / "rows.json", json.dumps(rows, indent=1).encode())
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="+", type=Row.parse, metavar="DATASET:METHOD:EPSILON")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8.0, help="of this leg")
    parser.add_argument("--until", metavar="CHECKPOINT", help="stop after this one")
    parser.add_argument("--unpack", type=Path, help="parts that an earlier leg packed")
    parser.add_argument("--pack", type=Path, help="where this leg leaves its own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--samples", type=int, default=60_000)
    parser.add_argument("--device", choices=("auto", "cpu"), default="auto")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    args = parser.parse_args()
    deadline = time.time() + 60 * args.minutes
    if args.unpack is not None:
        unpack(args.unpack, args.out)
    args.out.mkdir(parents=True, exist_ok=True)
    leg = Leg(
        args.data, args.out, deadline, args.until, args.seed, args.delta, args.samples,
        args.device, tuple(args.set), max(1, (os.cpu_count() or 1) // len(args.rows)),
    )  # fmt: skip
    apart = multiprocessing.get_context("spawn")
    working = [apart.Process(target=run, args=(row, leg), name=row.name) for row in args.rows]
    for one in working:
        one.start()
    for one in working:
        one.join()
    for r in collect(args.out):
        print(f"{r['dataset']} {r['method']} epsilon {r['epsilon']:g}: {r['sets']['all']}")
    if args.pack is not None:
        pack(args.out, args.pack)
    failed = [one.name for one in working if one.exitcode not in (0, INTERRUPTED)]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        return 1
    return INTERRUPTED if any(one.exitcode for one in working) else 0


if __name__ == "__main__":
    sys.exit(main())
