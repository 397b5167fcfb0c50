"""Mutates files of every format for a given time, and prints the outcomes.

    python scripts/fuzz.py --minutes 30 --out fuzz.json

The mutators, the formats and the allowed outcomes are those of ``tests/hostile``. The only outcomes
allowed are a legal result or a refusal; anything else is printed with its seed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MODULES = (
    "mutations", "formats", "children", "image_formats", "text_formats", "tensor_formats",
    "run_formats",
)  # fmt: skip
PER_ROUND = 20  # inputs of one format before the next has its turn
SLOW = 5.0  # seconds of processor time that no small file may take
ANSWERS = ("accepted", "refused", "crashed")


def shared() -> dict[str, Any]:
    """Imports the modules of ``tests/hostile`` by path, as another package may be named ``tests``.
    """
    for name in MODULES:
        full = f"tests.hostile.{name}"
        path = ROOT / "tests" / "hostile" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(full, path)
        assert spec is not None and spec.loader is not None
        sys.modules[full] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return {name: sys.modules[f"tests.hostile.{name}"] for name in MODULES}


def all_formats(modules: dict[str, Any], place: Path, stack: ExitStack) -> list[Any]:
    """Makes every format, with a run and a set, and checks that its genuine content is accepted."""
    runs = modules["run_formats"]
    freeze = stack.enter_context(runs.remembered_prices())
    run = runs.finished_run(place / "run")
    synthetic = runs.synthetic_set(run, place / "set")
    forms = [
        *modules["image_formats"].image_formats(),
        *modules["text_formats"].text_formats(),
        *modules["tensor_formats"].tensor_formats(),
        *runs.run_formats(run, synthetic),
    ]
    for form in forms:
        with tempfile.TemporaryDirectory() as folder:
            if modules["formats"].outcome(form, form.genuine, Path(folder)) != "accepted":
                raise SystemExit(f"the genuine {form.name} is refused")
    freeze()
    return forms


def answer(modules: dict[str, Any], form: Any, content: bytes) -> tuple[str, str]:  # noqa: ANN401
    """Returns the outcome of a reader, and for a crash its traceback."""
    with tempfile.TemporaryDirectory() as folder:
        signal.setitimer(signal.ITIMER_PROF, SLOW)
        try:
            if not form.native:
                return modules["formats"].outcome(form, content, Path(folder)), ""
            found = modules["children"].in_child(lambda: form.judge(content, Path(folder)))
            if found.error and not found.refused:
                return "crashed", found.message
            return ("refused" if found.refused else "accepted"), ""
        except Exception:
            return "crashed", traceback.format_exc(limit=-4)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)


def inputs(form: Any, seed: int) -> Iterator[tuple[str, bytes]]:  # noqa: ANN401
    """Yields mutants of a format without end, each with the seed that makes it again."""
    number = 0
    while True:
        name = f"{seed} {form.name} {number}"
        yield name, form.mutant(random.Random(name))
        number += 1


def too_slow(*_: object) -> None:
    raise TimeoutError(f"more than {SLOW:g} seconds of processor time")


def fence(n_bytes: int) -> None:
    """Limits the growth of this process to ``n_bytes``, so that a reader that needs more crashes.
    """
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + n_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def fuzz(
    modules: dict[str, Any], forms: list[Any], seconds: float, seed: int, show: Callable[..., None]
) -> dict[str, Any]:
    """Runs the mutants, and returns the counts of outcomes and every fault with its seed."""
    drawn = {form.name: inputs(form, seed) for form in forms}
    tally: dict[str, Counter[str]] = {form.name: Counter() for form in forms}
    faults: list[dict[str, str]] = []
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        for form in forms:
            for _ in range(PER_ROUND):
                name, content = next(drawn[form.name])
                found, words = answer(modules, form, content)
                tally[form.name][found] += 1
                if words:
                    faults.append({"seed": name, "error": words})
                    show(f"CRASHED {name}\n{words}")
    rows = {name: {"inputs": sum(c.values()), **{a: c[a] for a in ANSWERS}} for name, c in
            tally.items()}  # fmt: skip
    return {"seed": seed, "seconds": round(time.monotonic() - began), "formats": rows,
            "faults": faults}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="a word of the formats' names")
    parser.add_argument("--out", type=Path, help="JSON file of the tally")
    given = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGPROF, too_slow)
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        os.environ["DPGEN_HOME"] = str(Path(place) / "home")
        modules = shared()
        forms = [
            form
            for form in all_formats(modules, Path(place), stack)
            if given.only is None or given.only in form.name
        ]
        fence(2**30)
        found = fuzz(modules, forms, 60 * given.minutes, given.seed, print)
    print(f"{'format':32}" + "".join(f"{word:>10}" for word in ("inputs", *ANSWERS)))
    total = Counter[str]()
    for name, row in found["formats"].items():
        print(f"{name:32}" + "".join(f"{n:>10}" for n in row.values()))
        total.update(row)
    print(f"{'all':32}" + "".join(f"{total[word]:>10}" for word in ("inputs", *ANSWERS)))
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=1) + "\n")
    if found["faults"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
