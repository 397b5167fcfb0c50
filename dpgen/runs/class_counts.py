"""The class counts of a run: noisy ones, as its releases hold them, and the shares they give.

Every release of class-wise sums holds a noisy count of each class. Where the counts are kept is
behind the noise, so keeping them is post-processing and costs nothing; they lie in the run folder
beside the networks, and the certificate covers that file as it covers those.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpgen.privacy.mechanisms.contributions import Counting
from dpgen.privacy.mechanisms.declared import Mechanism, NoisySum
from dpgen.storage.canonical import canonical
from dpgen.storage.durable import replace_durably
from dpgen.storage.files import read_json

if TYPE_CHECKING:
    from torch import Tensor

    from dpgen.runs.checkpoint import Checkpoints

CLASS_COUNTS = "class_counts.json"
SCHEMA = "dpgen-class-counts/1"
FILE_BYTES = 2**23
GRID = 16  # steps of a count in one standard deviation of its noise


@dataclass(frozen=True)
class ClassCounts:
    """Noisy counts of the records of each class.

    Args:
        counts: in label order; negative where the noise made them so.
        standard_deviation: of their noise.
    """

    counts: tuple[float, ...]
    standard_deviation: float

    def shares(self, n_records: int) -> tuple[float, ...]:
        """Returns the proportions of the classes, at least 0 and 1 in all: the counts shrunk by
        what the noise is known to add to their spread, and none below 0.

        Args:
            n_records: the public, declared number of records.
        """
        import torch

        noisy = torch.tensor(self.counts, dtype=torch.float64)
        counts = towards_equal(noisy, self.standard_deviation, n_records).clamp_min(0)
        if not counts.sum() > 0:
            counts = torch.ones_like(counts)
        return tuple((counts / counts.sum()).tolist())


def towards_equal(noisy: Tensor, noise: float, n_records: int) -> Tensor:
    """Shrinks class counts (K,) towards equal ones.

    Args:
        noisy: released counts, (K,).
        noise: standard deviation of their noise.
        n_records: the public, declared number of records.

    Reference: Efron and Morris (1973), empirical Bayes estimation of several normal means.
    """
    expected = n_records / len(noisy)
    spread = ((noisy - expected).square().mean() - noise**2).clamp_min(0)
    return expected + (noisy - expected) * spread / (spread + noise**2)


def released_counts(
    stages: Mapping[str, Mechanism], checkpoints: Checkpoints
) -> ClassCounts | None:
    """Averages the counts that the finished releases of a run hold, weighted by their precision;
    None where none of them counts classes.

    Privacy: reads noisy tables, as `dpgen.stages.release.released` saved them, and no record. The
    counts are rounded to a sixteenth of the standard deviation, so that no low bits of
    floating-point noise leave the run.

    Args:
        stages: the mechanisms of the run's plan, by label.
        checkpoints: of the run.
    """
    found = []
    for label, mechanism in stages.items():
        if isinstance(mechanism, NoisySum) and isinstance(mechanism.statistic, Counting):
            held = checkpoints.load(label)
            if held is None:
                raise RuntimeError(f"stage {label!r} is not finished and counts no classes yet")
            scale = mechanism.statistic.count_scale
            table = held[0]["counts" if "counts" in held[0] else "sums"]
            found.append((table[:, -1] / scale, mechanism.noise_std / scale))
    if not found:
        return None
    precision = math.fsum(std**-2 for _, std in found)
    mean = sum(counts / std**2 for counts, std in found) / precision
    std = precision**-0.5
    return ClassCounts(tuple((mean * GRID / std).round().mul(std / GRID).tolist()), std)


def keep_class_counts(
    folder: Path, stages: Mapping[str, Mechanism], checkpoints: Checkpoints,
    class_names: tuple[str, ...],
) -> None:  # fmt: skip
    """Writes the `released_counts` of a run beside its networks, whole; nothing where it has none,
    or no classes.
    """
    counts = released_counts(stages, checkpoints) if len(class_names) > 1 else None
    if counts is None:
        return
    table = {
        "schema": SCHEMA,
        "counts": dict(zip(class_names, counts.counts, strict=True)),
        "standard_deviation": counts.standard_deviation,
    }
    replace_durably(folder / CLASS_COUNTS, canonical(table).encode())


def read_class_counts(folder: Path, class_names: tuple[str, ...]) -> ClassCounts:
    """Reads the counts of a finished run. Raises ValueError for a file that no run writes."""
    path = folder / CLASS_COUNTS
    table: Any = read_json(path, FILE_BYTES)
    if not isinstance(table, dict) or table.get("schema") != SCHEMA:
        raise ValueError(f"{path} must be a table of schema {SCHEMA}")
    counts: Any = table.get("counts")
    std: Any = table.get("standard_deviation")
    if not isinstance(counts, dict) or set(counts) != set(class_names):
        raise ValueError(f"{path} must count each class of the run, and no others")
    numbers = [counts[name] for name in class_names]
    for number in (*numbers, std):
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ValueError(f"{path} must hold numbers, got {number!r:.60}")
    if not std > 0:
        raise ValueError(f"{path}: standard_deviation must be greater than 0, got {std}")
    return ClassCounts(tuple(float(number) for number in numbers), float(std))
