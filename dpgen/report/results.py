"""The results of a benchmark as the report reads them: checked, in order, averaged over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from dpgen.evaluation.metrics import Estimate, Metric, estimate, ordered

__all__ = ["SCHEMA", "Outcome", "Results"]

SCHEMA = "dpgen-benchmark/1"
DONE, FAILED = "done", "failed"


@dataclass(frozen=True)
class Outcome:
    """The outcome of one cell: a method at one epsilon with one seed.

    ``broken`` names the metrics that came out as no number; ``metrics`` holds the others.
    ``shared`` is the label of the method whose release this one draws from.
    """

    label: str
    epsilon: float
    seed: int
    status: str
    error: str | None
    privacy: Mapping[str, Any] | None
    metrics: Mapping[str, float]
    broken: tuple[str, ...]
    seconds: Mapping[str, float]
    peak_mib: float | None
    grid: str | None
    shared: str | None

    @property
    def done(self) -> bool:
        return self.status == DONE

    @property
    def verified(self) -> bool:
        return self.done and self.privacy is not None and self.privacy.get("verified") is True


@dataclass(frozen=True)
class Results:
    """All cells, methods in their given order, epsilons and seeds ascending."""

    title: str
    created: str
    data: Mapping[str, Any]
    protocol: Mapping[str, Any]
    machine: Mapping[str, Any]
    methods: Mapping[str, Mapping[str, Any]]
    epsilons: tuple[float, ...]
    seeds: tuple[int, ...]
    outcomes: Mapping[tuple[str, float, int], Outcome]
    references: Mapping[str, Mapping[str, float]]
    metrics: tuple[Metric, ...]

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Results:
        """Checks a results dictionary.

        The optional ``"epsilons"`` and ``"seeds"`` (their number, or a list) say what a benchmark
        that is still running will have; without them, what its cells have.
        """
        if values.get("schema") != SCHEMA:
            raise ValueError(f"schema must be {SCHEMA!r}, got {values.get('schema')!r:.60}")
        for name, kind in (("methods", Sequence), ("cells", Sequence), ("data", Mapping)):
            if not isinstance(values.get(name), kind) or isinstance(values[name], str):
                raise ValueError(
                    f"{name} must be a {'list' if kind is Sequence else 'table'}, "
                    f"got {values.get(name)!r:.60}"
                )
        methods = {str(method["label"]): method for method in values["methods"]}
        if len(methods) < len(values["methods"]):
            raise ValueError(f"methods must have one label each, got {list(methods)}")
        outcomes: dict[tuple[str, float, int], Outcome] = {}
        for i, cell in enumerate(values["cells"]):
            label = str(cell.get("label"))
            if label not in methods:
                raise ValueError(f"cells[{i}].label must be of {list(methods)}, got {label!r}")
            outcome = _outcome(cell, f"cells[{i}]", methods[label].get("teacher_of"))
            key = (label, outcome.epsilon, outcome.seed)
            if key in outcomes:
                raise ValueError(f"cells[{i}] is there twice: {key}")
            outcomes[key] = outcome
        references = {
            str(name): _split(metrics, f"references.{name}")[0]
            for name, metrics in (values.get("references") or {}).items()
        }
        seeds = values.get("seeds", ())
        seeds = range(seeds) if isinstance(seeds, int) else seeds
        finished = [outcome for outcome in outcomes.values() if outcome.done]
        return cls(
            title=str(values.get("title") or "dpgen benchmark"),
            created=str(values.get("created") or ""),
            data=values["data"],
            protocol=values.get("protocol") or {},
            machine=values.get("machine") or {},
            methods=methods,
            epsilons=tuple(
                sorted({*map(float, values.get("epsilons", ())), *(k[1] for k in outcomes)})
            ),
            seeds=tuple(sorted({*seeds, *(k[2] for k in outcomes)})),
            outcomes=outcomes,
            references=references,
            metrics=ordered(name for o in finished for name in (*o.metrics, *o.broken)),
        )

    def group(self, label: str, epsilon: float) -> tuple[Outcome | None, ...]:
        """Returns the cells of one method at one epsilon, seed by seed; None if not there yet."""
        return tuple(self.outcomes.get((label, epsilon, seed)) for seed in self.seeds)

    def done(self, label: str, epsilon: float) -> tuple[Outcome, ...]:
        return tuple(o for o in self.group(label, epsilon) if o is not None and o.done)

    def estimate(self, metric: Metric, label: str, epsilon: float) -> Estimate | None:
        """Estimates a metric over the finished cells that have it; None without any."""
        cells = self.done(label, epsilon)
        return estimate(c.metrics[metric.name] for c in cells if metric.name in c.metrics)

    def decimals(self, metric: Metric) -> int:
        """Returns the decimals for all means of a metric: a column of a table has one number of
        digits.
        """
        means = [self.estimate(metric, k, e) for k in self.methods for e in self.epsilons]
        return metric.decimals(found.mean for found in means if found is not None)

    def best(self, metric: Metric, epsilon: float) -> tuple[str, ...]:
        """Labels at the top: the best mean, and all whose standard errors reach its own; only of
        methods whose guarantee is verified in every finished cell.
        """
        found = {
            label: value
            for label in self.methods
            if (value := self.estimate(metric, label, epsilon)) is not None
            and all(o.verified for o in self.done(label, epsilon))
        }
        if metric.better is None or not found:
            return ()
        if metric.better == "high":
            edge = max(found.values(), key=lambda e: e.mean).low
            return tuple(label for label, value in found.items() if value.high >= edge)
        edge = min(found.values(), key=lambda e: e.mean).high
        return tuple(label for label, value in found.items() if value.low <= edge)

    def winner(self, metric: Metric, epsilon: float) -> str | None:
        """Returns the label with the best mean; the first of several."""
        top = {k: self.estimate(metric, k, epsilon) for k in self.best(metric, epsilon)}
        means = {k: value.mean for k, value in top.items() if value is not None}
        if not means:
            return None
        return (max if metric.better == "high" else min)(means, key=lambda k: means[k])

    def unverified(self, label: str) -> bool:
        """Returns whether any finished cell of a method has no verified guarantee."""
        return any(not o.verified for epsilon in self.epsilons for o in self.done(label, epsilon))

    @property
    def missing(self) -> tuple[tuple[str, float, int], ...]:
        """Lists the cells that are not there: the benchmark is still running, or was stopped."""
        return tuple(
            (label, epsilon, seed)
            for label in self.methods
            for epsilon in self.epsilons
            for seed in self.seeds
            if (label, epsilon, seed) not in self.outcomes
        )


def _outcome(cell: Mapping[str, Any], where: str, teacher_of: str | None) -> Outcome:
    epsilon, seed, status = cell.get("epsilon"), cell.get("seed"), cell.get("status")
    if not _finite(epsilon) or epsilon <= 0:
        raise ValueError(f"{where}.epsilon must be a positive number, got {epsilon!r}")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ValueError(f"{where}.seed must be a whole number, got {seed!r}")
    if status not in (DONE, FAILED):
        raise ValueError(f"{where}.status must be {DONE!r} or {FAILED!r}, got {status!r:.60}")
    privacy = cell.get("privacy")
    if privacy is not None and privacy.get("verified") is True:
        for name in ("epsilon", "delta"):
            if not _finite(privacy.get(name)):
                raise ValueError(
                    f"{where}.privacy.{name} must be a number where it is verified, "
                    f"got {privacy.get(name)!r:.60}"
                )
    metrics, broken = _split(cell.get("metrics") or {}, f"{where}.metrics")
    seconds, _ = _split(cell.get("seconds") or {}, f"{where}.seconds")
    peak = cell.get("peak_mib")
    return Outcome(
        label=str(cell.get("label")),
        epsilon=float(epsilon),
        seed=seed,
        status=status,
        error=cell.get("error"),
        privacy=privacy,
        metrics=metrics,
        broken=broken,
        seconds=seconds,
        peak_mib=float(peak) if _finite(peak) else None,
        grid=cell.get("grid"),
        shared=cell.get("shared") or teacher_of,
    )


def _split(values: Mapping[str, Any], where: str) -> tuple[dict[str, float], tuple[str, ...]]:
    """Splits numbers from the names of what is infinite or not a number; null is neither."""
    numbers: dict[str, float] = {}
    broken = []
    for name, value in values.items():
        if value is None:
            continue
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"{where}.{name} must be a number or null, got {value!r:.60}")
        if math.isfinite(value):
            numbers[name] = float(value)
        else:
            broken.append(name)
    return numbers, tuple(broken)


def _finite(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
