"""The settings of `gpu_legs.py`: by data set, method and epsilon, and the hardware's.

Chosen without a look at a test record: from published recipes, the noise that `dpgen plan` says,
and what a GPU does in minutes. The published 300 epochs at noise multiplicity 32 are 576 million
noised images; these runs have a hundredth of that, and start from what a release already knows.
"""

from __future__ import annotations

from typing import Any

from dpgen.runs.context import Hardware

# IDX files and CIFAR's batches do not say it.
CLASSES = {"mnist": 10, "cifar10": 10}
# A clip far below the norm of any gradient: every record counts alike, and Adam takes out the
# scale (numbers of DPImageBench). Expected batches a little below a whole number of micro-batches.
COMMON: dict[str, Any] = {"batch": 1950, "clip_norm": 0.01}
TEACHERS: dict[str, dict[str, Any]] = {
    "mnist": {
        "warm_start": "sketch", "residual": "off", "pretrain_steps": 2000, "pretrain_batch": 512,
        "n_steps": 300, "n_draws": 8, "learning_rate": 7e-4,
    },
    "cifar10": {
        "warm_start": "moments", "bands": 8, "n_steps": 200, "n_draws": 4, "learning_rate": 1e-3,
    },
}  # fmt: skip
QUIET: dict[str, Any] = {"warm_start_share": 0.1, "ema_decay": 0.98}
# Where noise rules: fewer and smaller steps, more of the budget for the releases made once.
LOUD: dict[str, Any] = {
    "warm_start_share": 0.7, "n_steps": 100, "learning_rate": 3e-4, "ema_decay": 0.95,
}  # fmt: skip
SKETCH: dict[str, Any] = {"labeller_share": 0.3, "n_samples": 30_000}
STUDENT: dict[str, Any] = {
    "n_iterations": 1000, "batch_size": 256, "pool_size": 30_000, "ema_decay": 0.995,
}  # fmt: skip


def recipe(dataset: str, method: str, epsilon: float) -> dict[str, Any]:
    """Settings of a method by name, as nested tables."""
    if dataset not in TEACHERS:
        raise ValueError(f"the data set must be {' or '.join(TEACHERS)}, got {dataset!r}")
    teacher = TEACHERS[dataset] | COMMON | (LOUD if epsilon < 3 else QUIET)
    if teacher["warm_start"] == "sketch":
        teacher["sketch"] = dict(SKETCH)
    return {"teacher": teacher} | ({"student": dict(STUDENT)} if method == "dp-sad" else {})


def hardware(device: str, n_draws: int) -> Hardware:
    """bf16 on a GPU, and 2,048 noised images at once: three such runs go side by side in 80 GB."""
    if device == "cpu":
        return Hardware("cpu")
    return Hardware(device, "bf16", micro_batch=max(1, 2048 // n_draws))
