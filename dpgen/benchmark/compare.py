"""Runs `dpgen benchmark`: the cells of a file, with new tables and a new page after each."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dpgen import report
from dpgen.benchmark import cell
from dpgen.benchmark import schedule as benchmark
from dpgen.benchmark.claims import Claims
from dpgen.benchmark.schedule import BenchmarkSettings
from dpgen.data.private import PrivateDataset
from dpgen.evaluation.utility import UtilityProtocol
from dpgen.images.images import PublicFacts
from dpgen.report.results import SCHEMA
from dpgen.settings import plain
from dpgen.storage.canonical import canonical
from dpgen.storage.durable import held_alone, replace_durably
from dpgen.storage.files import read_json

REAL = "real"  # the name of the metrics of real images, and of the claim on them


def compare(
    settings: BenchmarkSettings, out: Path, *, jobs: int = 1, show: bool = False
) -> dict[str, Any]:
    """Runs the cells that are not finished, and returns the results, which are also written.

    ``out`` holds ``results.json``, ``results.md``, ``report.html`` and a folder for each cell.
    Several machines may run the same benchmark in one folder that they share, with one
    ``DPGEN_HOME``: each takes cells that nobody has taken, and returns when all have ended. The
    results describe the machine that wrote them last.

    Args:
        settings: the methods, budgets and seeds to compare.
        out: the folder of the results.
        jobs: number of cells at a time, each in a process of its own with its share of the cores.
        show: whether to show progress bars.
    """
    data = cell.open_records(settings)
    facts = data.facts
    recipes = {
        network: asdict(UtilityProtocol.of(network, facts.n_records))
        for network in settings.networks
    }
    methods = [_described(settings, entry, facts) for entry in settings.entries]
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    out.mkdir(parents=True, exist_ok=True)
    created = datetime.now(UTC).isoformat(timespec="seconds")

    def written(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        results = {
            "schema": SCHEMA,
            "title": settings.title,
            "created": created,
            "data": {
                "name": settings.data if settings.data == "digits" else Path(settings.data).name,
                "n_records": facts.n_records,
                "shape": list(facts.shape),
                "class_names": list(facts.class_names),
                "reference": settings.reference,
                "public": data.public,
            },
            "protocol": {
                "n_samples": settings.n_samples,
                "fidelity": next(
                    (
                        {key: c["fidelity"].get(key) for key in ("network", "protocol")}
                        for c in cells
                        if "fidelity" in c
                    ),
                    {},
                ),
                "utility": recipes,
                "selection": settings.selection,
            },
            "machine": {
                "cpu": platform.processor() or platform.machine(),
                "threads": int(os.environ["OMP_NUM_THREADS"]),
                "jobs": jobs,
                "torch": version("torch"),
                "dpgen": version("dpgen"),
            },
            "epsilons": list(settings.epsilons),
            "seeds": settings.seeds,
            "methods": methods,
            "cells": list(cells),
            "references": references,
        }
        with held_alone(out / "results.json"):
            replace_durably(out / "results.json", json.dumps(results, indent=1).encode())
            replace_durably(out / "results.md", report.markdown(results).encode())
            replace_durably(out / "report.html", report.render(results, out).encode())
        return results

    _sweep(settings, out)
    references = _references(settings, out, data, show) if settings.ceiling else {}
    benchmark.run(settings, out, cell.run_cell, jobs=jobs, show=show, finished=written)
    return written(benchmark.held(settings, out))


def _sweep(settings: BenchmarkSettings, out: Path) -> None:
    """Deletes the partial files of killed benchmarks, unless another one is at work in the folder.
    """
    with Claims() as claims, held_alone(out / "results.json"):
        places = [out / REAL, *(benchmark.place_of(out, each) for each in settings.cells())]
        if all(claims.is_over(place) for place in places):
            for partial in out.rglob(benchmark.PARTIAL):
                partial.unlink(missing_ok=True)


def _references(
    settings: BenchmarkSettings, out: Path, data: PrivateDataset, show: bool
) -> dict[str, Any]:
    """Measures the metrics of real images, once, on one of the machines."""
    path = out / f"{REAL}.json"
    with Claims() as claims:
        while not path.exists():
            if claims.take(out / REAL) is None:
                time.sleep(benchmark.POLL)
            elif not path.exists():
                found = cell.real_data_ceiling(settings, out, data, show=show)
                replace_durably(path, json.dumps(found, indent=1).encode())
    found = read_json(path, finite=False)
    if not isinstance(found, dict) or not all(isinstance(v, int | float) for v in found.values()):
        raise ValueError(f"{path} must hold metrics by name, got something else: remove it")
    return {"real": found}


def _described(
    settings: BenchmarkSettings, entry: benchmark.Entry, facts: PublicFacts
) -> dict[str, Any]:
    """Describes a method for the report; refuses bad settings and budgets before any cell is
    trained.
    """
    shown: dict[str, Any] = {}
    for epsilon in settings.epsilons:
        generator = cell.configure(settings, entry, epsilon, facts)
        shown = asdict(generator.settings)
        if entry.teacher_of is None:
            generator.plan(facts)
        else:
            trained = cell.configure(settings, settings.entry(entry.teacher_of), epsilon, facts)
            theirs = asdict(trained.settings)
            taken = [name for name in shown if name in theirs and name != "mode"]
            if unused := [name for name in taken if name in entry.settings]:
                raise ValueError(
                    f"settings of {entry.label!r} must not hold {', '.join(unused)}: it draws from "
                    f"what {entry.teacher_of!r} trains, set them there"
                )
            shown |= {name: theirs[name] for name in taken}
    return {
        "label": entry.label,
        "method": entry.method,
        "mode": generator.settings.mode,
        "teacher_of": entry.teacher_of,
        "settings": json.loads(canonical(plain(shown))),
    }
