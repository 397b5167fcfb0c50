"""From a finished run to a folder of another library's parts."""

from __future__ import annotations

import shutil
from pathlib import Path

from dpgen.data.export import check_empty
from dpgen.exports.model import model_of
from dpgen.exports.table import writer
from dpgen.methods.loading import load
from samplers import make_sampler


def export(
    run: Path,
    out: Path,
    *,
    target: str,
    network: str = "model",
    sampler: str | None = None,
    steps: int = 50,
    allow_unverified: bool = False,
) -> None:
    """Writes the model of ``run`` to ``out``, whole or not at all.

    Args:
        out: absent or empty.
        target: a key of `dpgen.exports.table.EXPORTS`.
        network: which of the released networks: "model", or "teacher" of dp-sad.
        sampler, steps: "ddim" or "heun" and its number of steps, from 20 to 0.02 as `dpgen sample`
            takes them; ``None`` takes the method's own.
        allow_unverified: takes a run that carries a notice instead of a certificate, too.
    """
    check_empty(out)
    generator = load(run, allow_unverified=allow_unverified)
    chosen = None
    if sampler is not None:
        chosen = make_sampler(sampler, n_steps=steps, sigma_min=0.02, sigma_max=20.0)
    model = model_of(generator, network, chosen)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        writer(target)(model, partial)
        if out.exists():
            out.rmdir()
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
