"""Exports a finished run to a folder in the format of another library."""

from __future__ import annotations

import shutil
from pathlib import Path

from dpgen.data.export import check_empty
from dpgen.exports.table import writer
from dpgen.methods.loading import load
from samplers import make_sampler


def export(
    run: Path,
    out: Path,
    *,
    target: str,
    network: str | None = None,
    sampler: str | None = None,
    steps: int = 50,
    allow_unverified: bool = False,
) -> None:
    """Writes a network of ``run`` to ``out``, completely or not at all.

    Args:
        run: the folder of a finished run.
        out: the folder to make; absent or empty.
        target: a key of `dpgen.exports.table.EXPORTS`.
        network: name of a released network; None for the one that the target is meant for.
        sampler, steps: "ddim" or "heun" and its number of steps, on noise levels from 20 to 0.02 as
            for `dpgen sample`; None takes the method's own.
        allow_unverified: whether to take a run that carries a notice instead of a certificate.

    Raises:
        UnverifiedClaim: the run carries a notice, and that was not allowed.
        ValueError: the target has no form for this network, or an argument is refused.
        ModuleNotFoundError: a package that the target needs is missing.
    """
    check_empty(out)
    generator = load(run, allow_unverified=allow_unverified)
    chosen = None
    if sampler is not None:
        chosen = make_sampler(sampler, n_steps=steps, sigma_min=0.02, sigma_max=20.0)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        writer(target)(generator, network, chosen, partial)
        if out.exists():
            out.rmdir()
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
