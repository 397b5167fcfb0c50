"""The settings of `gpu_legs.py`: by data set, method and epsilon, and the hardware's."""

from __future__ import annotations

from typing import Any

from dpgen.workplace import Hardware

# From the sketch, or for colour from class means and second moments: a short run of large batches,
# not the 300 epochs of the published recipe.
TEACHERS: dict[str, dict[str, Any]] = {
    "mnist": {
        "warm_start": "sketch", "residual": "off", "pretrain_steps": 2500, "pretrain_batch": 512,
        "batch": 4096, "learning_rate": 5e-4,
    },
    "cifar10": {
        "warm_start": "moments", "batch": 4096, "learning_rate": 5e-4, "bands": 8,
    },
}  # fmt: skip


def recipe(dataset: str, method: str, epsilon: float) -> dict[str, Any]:
    """Settings of a method by name, as nested tables."""
    if dataset not in TEACHERS:
        raise ValueError(f"the data set must be {' or '.join(TEACHERS)}, got {dataset!r}")
    teacher = dict(TEACHERS[dataset])
    # Noise rules at small epsilon: more for the one-shot releases, fewer steps, and gradients that
    # are averaged over more draws before the clip.
    loud = epsilon < 3
    teacher |= {"n_steps": 300, "n_draws": 16, "ema_decay": 0.98} if loud else {
        "n_steps": 1000, "n_draws": 4, "ema_decay": 0.99,
    }  # fmt: skip
    teacher["warm_start_share"] = 0.5 if loud else 0.1
    if teacher["warm_start"] == "sketch":
        teacher["sketch"] = {"labeller_share": 0.3, "n_samples": 30_000}
    found: dict[str, Any] = {"teacher": teacher}
    if method == "dp-sad":
        found["student"] = {
            "n_iterations": 2000, "batch_size": 256, "pool_size": 30_000, "ema_decay": 0.995,
        }  # fmt: skip
    return found


def hardware(dataset: str, device: str) -> Hardware:
    if device == "cpu":
        return Hardware("cpu")
    return Hardware(device, "bf16", micro_batch=256)
