"""Measures the speed of `dpgen` on this machine, as ratios within one run.

    python scripts/speed.py --out assets/speed.json --picture assets/speed.png
    python scripts/speed.py --only gpu sampling written --out assets/speed_gpu.json

Sections: `step` (private over plain: time, peak memory), `peers` (Opacus hooks and ghost clipping),
`sampling` (1, 2, 4 and 250 steps), `precision` (the network in bfloat16, channels last), `written`
(from network to disk), `parallel` (sampling by one and two processes), `shared` (private steps by
one and two), `streamed` (large sets to disk: peak memory, and time over that of a plain write),
`growth` (records, side, parameters), `profile` (operators or kernels of a micro-batch by time, only
where it is named), `gpu` (whole steps on a GPU, with what the card can do). Times
on a CPU are of this process alone, but for `written`, `parallel`, `shared` and `streamed` by the
wall clock, which needs idle cores; every ratio is the median of rounds in turns, with the least and
the largest. Rows are printed and written as they come, so that a run that is cut off keeps what it
has.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="SECTION", help="of the sections, these")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", choices=["auto", "cpu"], default="auto")
    parser.add_argument("--out", type=Path, help="JSON file of all rows")
    parser.add_argument("--picture", type=Path, help="PNG file of the ratios")
    parser.add_argument("--peak", nargs=5, help=argparse.SUPPRESS)  # of a child process
    parser.add_argument("--stream", nargs=2, help=argparse.SUPPRESS)  # of a child process
    parser.add_argument("--share", nargs=5, help=argparse.SUPPRESS)  # of two child processes
    given = parser.parse_args()
    import torch
    from speed_runs.bench import Bench
    from speed_runs.drawing import drawing, precision, writing
    from speed_runs.gpu import gpu
    from speed_runs.growth import growth
    from speed_runs.operators import operators
    from speed_runs.parallel import parallel
    from speed_runs.peers import peers
    from speed_runs.picture import save_picture
    from speed_runs.shared_steps import share_here, shared_steps
    from speed_runs.steps import peak_here, steps
    from speed_runs.streaming import stream_here, streaming

    from dpgen.runs.context import Hardware

    warnings.simplefilter("ignore")
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    if given.peak:
        print(peak_here(*given.peak[:2], *map(int, given.peak[2:])))
        return
    if given.stream:
        print(json.dumps(stream_here(given.stream[0], int(given.stream[1]))))
        return
    if given.share:
        share_here(given.share[0], *map(int, given.share[1:]))
        return
    device = Hardware(given.device).accelerator().device
    sections = {
        "step": steps, "peers": peers, "sampling": drawing, "precision": precision,
        "written": writing, "parallel": parallel, "shared": shared_steps, "streamed": streaming,
        "growth": growth, "profile": operators,
    }  # fmt: skip
    if device.type == "cuda":
        sections = {"gpu": gpu, **sections}
    chosen = given.only or [name for name in sections if name != "profile"]
    if unknown := [name for name in chosen if name not in sections]:
        sys.exit(f"--only must be of {', '.join(sections)} on {device.type}, got {unknown[0]!r}")
    bench = Bench(device, given.rounds, given.out)
    for name in chosen:
        sections[name](bench)
        if bench.on_gpu:
            torch.cuda.empty_cache()
    if given.picture is not None:
        save_picture(bench.rows, bench.machine(), given.picture)


if __name__ == "__main__":
    main()
