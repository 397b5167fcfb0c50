"""Scores of synthetic sets against real images, as numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from dpgen.evaluation.classifiers import ClassifierScores
from dpgen.evaluation.evaluation import Evaluation
from dpgen.evaluation.fairness import FairnessScores
from dpgen.evaluation.metrics import Estimate
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

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON values."""
        return {
            "n_images": self.evaluation.n_images,
            "learned_from_reference": self.learned_from_reference,
            **_measured(self.evaluation),
            "copying": None if self.copying is None else self.copying.to_dict(),
        }


@dataclass(frozen=True)
class RealScores:
    """Of real images of the reference's other split, measured as the sets are.

    Args:
        evaluation: of as many as the largest set has, drawn by a fixed seed, or of all.
        split: which one.
        n_there: how many it has.
    """

    evaluation: Evaluation
    split: str
    n_there: int

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON values."""
        return {
            "n_images": self.evaluation.n_images,
            "split": self.split,
            **_measured(self.evaluation),
        }


@dataclass(frozen=True)
class Scores:
    """Of several sets against one reference, under one protocol.

    Args:
        reference: where the real images are from.
        split: which of them.
        n_reference: how many.
        private: whether the numbers are computed from private records.
        class_names: of all of them.
        sets: by path.
        real: of other real images; a reason where there are none.
        classifiers: of released classifiers, by name.
        fairness: how classifiers of the sets treat groups; None where no groups were given.
    """

    reference: str
    split: str
    n_reference: int
    private: bool
    class_names: tuple[str, ...]
    sets: dict[str, SetScores]
    real: RealScores | str
    classifiers: dict[str, ClassifierScores] = field(default_factory=dict)
    fairness: FairnessScores | None = None

    def to_dict(self) -> dict[str, Any]:
        told = {} if self.fairness is None else {"fairness": self.fairness.to_dict()}
        return {
            "schema": "dpgen-scores/2",
            "reference": self.reference,
            "split": self.split,
            "n_reference": self.n_reference,
            "private": self.private,
            "charged": False,
            "sets": {name: scores.to_dict() for name, scores in self.sets.items()},
            "real": None if isinstance(self.real, str) else self.real.to_dict(),
            "classifiers": {name: one.to_dict() for name, one in self.classifiers.items()},
            **told,
        }


def _measured(one: Evaluation) -> dict[str, Any]:
    return {
        "metrics": {k: v.mean for k, v in one.metrics.items()},
        "utility": {k: [asdict(u) for u in v] for k, v in one.utilities.items()},
        "fidelity": None if one.fidelity is None else one.fidelity.to_dict(),
    }
