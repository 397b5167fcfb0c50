"""The price of a run, known before any record is read: its stages, each a named mechanism."""

from __future__ import annotations

from dataclasses import dataclass

from dp_accounting.dp_event import DpEvent

from dpgen.privacy.accounting import (
    Adjacency,
    Budget,
    GaussianLeaf,
    calibrate,
    compose,
    epsilon_of,
    gaussian_mu,
)
from dpgen.privacy.ledger import Charge, plan_hash
from dpgen.privacy.mechanisms import NoisySGD, NoisySum


@dataclass(frozen=True)
class Stage:
    """One mechanism under the name it is charged by."""

    label: str
    mechanism: NoisySGD | NoisySum

    @property
    def charge(self) -> Charge:
        m = self.mechanism
        return Charge(self.label, plan_hash(self.label, m.event, m.settings), m.event)


@dataclass(frozen=True)
class Plan:
    """Every touch of the records that a run may make, in order. `fit` charges exactly this."""

    stages: tuple[Stage, ...]
    adjacency: Adjacency

    def __post_init__(self) -> None:
        labels = [stage.label for stage in self.stages]
        if len(set(labels)) != len(labels):
            raise ValueError(f"stage labels must differ, got {labels}")

    @property
    def event(self) -> DpEvent:
        return compose(stage.mechanism.event for stage in self.stages)

    def epsilon(self, delta: float) -> float:
        return epsilon_of(self.event, delta, self.adjacency)

    def mechanism(self, label: str) -> NoisySGD | NoisySum | None:
        return next((s.mechanism for s in self.stages if s.label == label), None)


def split_budget(
    budget: Budget, adjacency: Adjacency, *, warm_start_share: float, rate: float, n_steps: int
) -> tuple[float | None, float | None]:
    """Noise multipliers of a one-shot Gaussian release and of DP-SGD that together spend ``budget``.

    The release gets ``warm_start_share`` of mu**2, the exact composition scale of Gaussians; what is left over is found by
    calibrating the composed event, so nothing is lost to the split.

    Args:
        warm_start_share: share of mu**2, in [0, 1]; 0 leaves the release out, 1 leaves DP-SGD out.
        rate, n_steps: of the DP-SGD.

    Returns:
        (multiplier of the release or None, multiplier of DP-SGD or None).
    """
    if not 0 <= warm_start_share <= 1:
        raise ValueError(f"warm_start_share must lie in [0, 1], got {warm_start_share}")
    if n_steps < 0 or (n_steps == 0 and warm_start_share < 1):
        raise ValueError(f"n_steps must be at least 1 unless warm_start_share is 1, got {n_steps}")
    if warm_start_share == 1:
        return calibrate(lambda x: GaussianLeaf(1.0, x, 1).event, budget, adjacency), None
    if warm_start_share == 0:
        return None, calibrate(lambda x: GaussianLeaf(rate, x, n_steps).event, budget, adjacency)
    sensitivity = 2.0 if adjacency == "replace_one" else 1.0
    release = sensitivity / (warm_start_share**0.5 * gaussian_mu(budget))
    release = float(f"{release * (1 + 1e-4):.5g}")
    warm = GaussianLeaf(1.0, release, 1).event
    sgd = calibrate(lambda x: compose([warm, GaussianLeaf(rate, x, n_steps).event]), budget, adjacency)
    return release, sgd
