"""Breaks `dpgen` in the middle of its work, again and again, and looks at what is left on the disk.

    python scripts/faults.py --rounds 110 --seed 0 --out faults.json

Every round does one fault to a real command on real files: kill -9 of train, sample and benchmark,
a full disk, a folder that cannot be written, data that vanish, two trainings at once. After it, and
again after the command was run once more, everything in `fault_rounds.invariants` (tests/faults)
must hold. A violation is printed with the words that repeat its round, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "faults"))

from fault_rounds import session  # noqa: E402
from fault_rounds.tally import table, tally  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=110)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file of all rounds")
    parser.add_argument("--table", type=Path, help="Markdown file of the tally")
    parser.add_argument("--kinds", nargs="+", help="words of the kinds' names")
    parser.add_argument("--without", nargs="+", default=[], help="words of kinds to leave out")
    parser.add_argument("--only", type=int, help="this round alone, to repeat it")
    parser.add_argument("--keep", type=Path, help="empty folder to work in, which stays")
    given = parser.parse_args()
    every = session.all_kinds()
    wanted = given.kinds
    kinds = {
        name: kind
        for name, kind in every.items()
        if (wanted is None or any(word in name for word in wanted))
        and not any(word in name for word in given.without)
    }
    if not kinds:
        raise SystemExit(f"--kinds must be words of: {', '.join(every)}")
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rounds = session.play(
        kinds, given.rounds, given.seed, only=given.only, out=given.out, keep=given.keep
    )
    print(tally(rounds))
    if given.table is not None:
        # Without the names of files, which are those of one machine.
        words = ["--rounds", given.rounds, "--seed", given.seed]
        words += [] if given.only is None else ["--only", given.only]
        words += ["--kinds", *given.kinds] if given.kinds else []
        words += ["--without", *given.without] if given.without else []
        command = shlex.join(["python", "scripts/faults.py", *map(str, words)])
        given.table.write_text(table(rounds, command))
    if any(row["violations"] for row in rounds):
        again = " ".join(sys.argv)
        print("repeat a round: " + again + " --only ROUND")
        raise SystemExit(1)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
