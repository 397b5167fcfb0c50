"""The settings of `gpu_legs.py`, by data set, method and epsilon, and the hardware settings.

They were chosen without test records: from published recipes, the noise that `dpgen plan` states,
and the speed of a GPU. The published 300 epochs at noise multiplicity 32 are 576 million noised
images; these runs have a hundredth of that, and start from earlier releases.
"""

from __future__ import annotations

from typing import Any

from dpgen.runs.context import Hardware

# Numbers of classes, which IDX files and CIFAR's batches do not state.
CLASSES = {"mnist": 10, "cifar10": 10}
# A clip norm far below the norm of any gradient: every record has the same weight, and Adam removes
# the scale (numbers of DPImageBench). The expected batch is slightly below a whole number of
# micro-batches.
COMMON: dict[str, Any] = {"batch": 3960, "clip_norm": 0.01, "n_draws": 8}
TEACHERS: dict[str, dict[str, Any]] = {
    "mnist": {
        "warm_start": "sketch", "residual": "off", "pretrain_steps": 2000, "pretrain_batch": 512,
        "n_steps": 180, "learning_rate": 7e-4,
    },
    "cifar10": {
        "warm_start": "moments", "bands": 8, "n_steps": 180, "learning_rate": 1e-3,
    },
}  # fmt: skip
QUIET: dict[str, Any] = {"warm_start_share": 0.15, "ema_decay": 0.98}
# At small epsilon: fewer and smaller steps, more of the budget for the one-shot releases.
LOUD: dict[str, Any] = {
    "warm_start_share": 0.5, "n_steps": 150, "learning_rate": 3e-4, "ema_decay": 0.95,
}  # fmt: skip
SKETCH: dict[str, Any] = {"labeller_share": 0.3, "n_samples": 30_000}
STUDENT: dict[str, Any] = {
    "n_iterations": 1000, "batch_size": 256, "pool_size": 30_000, "ema_decay": 0.995,
}  # fmt: skip


def recipe(dataset: str, method: str, epsilon: float) -> dict[str, Any]:
    """Returns the settings of a method as nested tables."""
    if dataset not in TEACHERS:
        raise ValueError(f"the data set must be {' or '.join(TEACHERS)}, got {dataset!r}")
    teacher = TEACHERS[dataset] | COMMON | (LOUD if epsilon < 3 else QUIET)
    if teacher["warm_start"] == "sketch":
        teacher["sketch"] = dict(SKETCH)
    return {"teacher": teacher} | ({"student": dict(STUDENT)} if method == "dp-sad" else {})


def hardware(device: str, n_draws: int) -> Hardware:
    """Returns the hardware settings: on a GPU bf16 and 2,048 noised images at once, so that three
    runs fit in 80 GB.
    """
    if device == "cpu":
        return Hardware("cpu")
    return Hardware(device, "bf16", micro_batch=max(1, 2048 // n_draws))
