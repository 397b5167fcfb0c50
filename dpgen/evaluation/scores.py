"""Scores of synthetic sets against real images, as numbers and as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dpgen.evaluation.evaluation import Evaluation
from dpgen.evaluation.metrics import Estimate, ordered
from dpgen.evaluation.nearest import Copying


@dataclass(frozen=True)
class SetScores:
    """Of one synthetic set: its evaluation, and its distances to the training records if they were
    asked for.
    """

    evaluation: Evaluation
    copying: Copying | None
    learned_from_reference: bool

    @property
    def metrics(self) -> dict[str, Estimate]:
        return self.evaluation.metrics

    def weakest(self, class_names: Sequence[str]) -> str:
        """Names the class that the first network's first seed knows least."""
        first = next(iter(self.evaluation.utilities.values()))[0]
        share, k = min((p, k) for k, p in enumerate(first.per_class) if p is not None)
        return f"{class_names[k]} ({100 * share:.0f} %)"

    def to_dict(self) -> dict[str, Any]:
        one = self.evaluation
        return {
            "n_images": one.n_images,
            "learned_from_reference": self.learned_from_reference,
            "metrics": {k: v.mean for k, v in self.metrics.items()},
            "utility": {k: [asdict(u) for u in v] for k, v in one.utilities.items()},
            "fidelity": None if one.fidelity is None else one.fidelity.to_dict(),
            "copying": None if self.copying is None else self.copying.to_dict(),
        }


@dataclass(frozen=True)
class Scores:
    """Of several sets against one reference, under one protocol."""

    reference: str
    split: str
    n_reference: int
    private: bool
    class_names: tuple[str, ...]
    sets: dict[str, SetScores]

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": "dpgen-scores/2",
            "reference": self.reference,
            "split": self.split,
            "n_reference": self.n_reference,
            "private": self.private,
            "sets": {name: scores.to_dict() for name, scores in self.sets.items()},
        }

    def text(self) -> str:
        """Writes a row a metric, the sets side by side, and the protocol below."""
        names = list(self.sets)
        sizes = (f"{s.evaluation.n_images:,}" for s in self.sets.values())
        rows = [["", *names], ["images", *sizes]]
        for metric in ordered(k for s in self.sets.values() for k in s.metrics):
            found = [s.metrics.get(metric.name) for s in self.sets.values()]
            decimals = metric.decimals(e.mean for e in found if e is not None)
            cells = ["-" if e is None else metric.text(e, decimals) for e in found]
            rows.append([metric.heading, *cells])
        if any(s.evaluation.utilities for s in self.sets.values()):
            weakest = (s.weakest(self.class_names) for s in self.sets.values())
            rows.append(["weakest class", *weakest])
        if all(s.copying is not None for s in self.sets.values()):
            shares = (s.copying.share(0.01) for s in self.sets.values() if s.copying is not None)
            rows.append(["as near as 1 % of held-out", *(f"{100 * x:.1f} %" for x in shares)])
        widths = [max(len(row[i]) for row in rows) for i in range(len(names) + 1)]
        lines = [
            f"Against {self.n_reference:,} real images ({self.reference}, {self.split}); accuracy "
            "is that of classifiers trained on synthetic images only",
            "",
        ]
        for first, *others in rows:
            right = (c.rjust(w) for c, w in zip(others, widths[1:], strict=True))
            lines.append("  ".join([first.ljust(widths[0]), *right]))
        return "\n".join([*lines, "", *self._protocol()])

    def _protocol(self) -> list[str]:
        one = next(iter(self.sets.values())).evaluation
        lines = [f"protocol: {u[0].protocol}" for u in one.utilities.values()]
        if (f := one.fidelity) is not None:
            lines += [f"protocol: {f.protocol}", f"features: {f.network}, {f.network_sha256[:16]}"]
        if self.private:
            lines.append(
                "These numbers were computed from real images without noise: no epsilon covers "
                "these numbers: do not publish them."
            )
        return lines
