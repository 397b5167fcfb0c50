"""Tells what a run will take before it is charged, and asks where it is much."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from dpgen.commands.estimate import GIB, duration, estimate

LONG_SECONDS = 3600.0
LARGE_SHARE = 0.5  # of what the data set has left


def agree(
    generator: Any, data: Any, out: Path, hardware: Any, *, yes: bool,  # noqa: ANN401
    show: bool = False,
) -> None:  # fmt: skip
    """Estimates a run that is not charged yet, and returns if it may go on: it fits into memory,
    and it is short, cheap and not hopeless, or was agreed to.

    A rehearsal runs a step of each kind on random images of the same shape, so what is missing or
    fails on this machine does so before the charge. Nothing is written. A run that would learn
    nothing is asked about, too.

    Args:
        generator: with its budget and settings; the settings are resolved here.
        data: with its ledger open.
        yes: agreed to already (``--yes``).
        show: a progress bar of the rehearsal.

    Raises:
        ValueError: it does not fit into memory, or nobody is there to ask.
        click.Abort: the answer was no.
    """
    from dpgen.methods.expectation import NOTHING, expected
    from dpgen.privacy.ledger.charges import limit_of, spent_of
    from dpgen.progress import progress_bar

    facts, lines = data.facts, data.ledger.lines()
    generator.settings = generator.resolve(facts)
    plan = generator.promise(facts)
    if not generator.certified or _is_charged(lines, out):
        return
    after = spent_of(lines, more=[stage.charge for stage in plan.stages])
    if after > limit_of(lines).epsilon:
        return  # `fit` refuses it and says why, and no rehearsal is needed to know
    with progress_bar("rehearsal", 1, show=show) as advance:
        rehearsal = generator.rehearse(facts, hardware)
        advance()
    click.echo(estimate(rehearsal), err=True)
    _require_memory(rehearsal)
    expectation = expected(plan, facts)
    click.echo(expectation.text, err=True)
    hopeless = ["nothing would be learned"] if expectation.level == NOTHING else []
    reasons = [*hopeless, *_long(rehearsal), *_expensive(lines, after)]
    if yes or not reasons:
        return
    told = "; ".join(reasons)
    if not _somebody_is_there():
        raise ValueError(
            f"{told}: nothing was charged. Say --yes to run it all the same"
            + (", or take a shorter one" if _long(rehearsal) else "")
        )
    click.confirm(f"{told}. Go on?", abort=True, err=True)


def _somebody_is_there() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _is_charged(lines: list[dict[str, Any]], out: Path) -> bool:
    """Returns whether ``out`` holds a finished run, or one that was charged: it costs nothing more.
    """
    from dpgen.runs.folder import RunFolder

    if any((out / name).exists() for name in ("privacy.json", "notice.json")):
        return True
    run = RunFolder.id_of(out)
    return any(x["kind"] == "charge" and x["run"] == run for x in lines)


def _expensive(lines: list[dict[str, Any]], after: float) -> list[str]:
    """Says so if the run would take more than half of what is left to a data set whose limit was
    chosen before this run.

    Args:
        lines: of its ledger.
        after: the epsilon that it will have spent.
    """
    from dpgen.privacy.ledger.charges import limit_of, spent_of

    if not any(x["kind"] == "charge" for x in lines):
        return []  # the first run chooses the limit
    limit, spent = limit_of(lines).epsilon, spent_of(lines)
    if after - spent <= LARGE_SHARE * (limit - spent):
        return []
    return [
        f"this data set has spent epsilon = {spent:.3g} of its limit {limit:g}, and would have "
        f"spent {after:.3g} after this run"
    ]


def _long(rehearsal: Any) -> list[str]:  # noqa: ANN401
    if rehearsal.seconds <= LONG_SECONDS:
        return []
    return [f"the run would take about {duration(rehearsal.seconds)}"]


def _require_memory(rehearsal: Any) -> None:  # noqa: ANN401
    from dpgen.runs.context import peak_memory
    from dpgen.runs.machine import available_memory
    from dpgen.runs.processes import joined

    if rehearsal.device == "GPU":
        return
    processes = joined()
    needed = rehearsal.memory_bytes * (1 if processes is None else processes.n_local)
    more, free = needed - peak_memory(), available_memory()
    if more > free:
        raise ValueError(
            f"the run would take {more / GIB:.1f} GiB more, and this machine has {free / GIB:.1f} "
            "GiB left: nothing was charged. Close other programs, or take a smaller --size, "
            "--micro-batch or preset"
        )
