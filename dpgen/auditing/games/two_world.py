"""The two-world game: many runs with a record and many without it, told apart by a threshold.

Nothing can be chosen after looking at results. The number of runs is a field of the game, the first
quarter of them sets the threshold and is not counted, and the game makes the runs itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dpgen.auditing.games.bounds import (
    gaussian_epsilon,
    proportion_high,
    proportion_low,
    two_world_epsilon,
    two_world_mu,
)
from dpgen.auditing.games.claims import BlowUp, Claim
from dpgen.auditing.games.power import Bound, detectable_mu, power_sentence, two_world_power

N_POINTS = 100
ALPHA = 1e-3  # an audit plays several games; none of them should accuse a correct mechanism


@dataclass(frozen=True)
class TwoWorld:
    """The result of a two-world game, from the runs that count.

    Args:
        claim: the claim that was tested.
        n_runs: number of runs per world, of which ``n_test`` count.
        threshold: half way between the worlds in the other runs.
        true_positives, false_positives: counts, of ``n_test`` each.
        alpha: probability with which a correct mechanism is accused, at most.
        tpr_low, fpr_high: bounds on the rates that hold at once with confidence 1 - alpha, as does
            everything that follows from them.
        detectable_by_pair, detectable_epsilon: epsilons that would have been detected by the
            printed epsilon and delta alone, and by the whole claim; see `power`.
        false_positive_rates, true_positive_rates: points of the empirical ROC curve.
        limits: the largest true positive rates that the claim allows at these false positive rates.
    """

    claim: Claim
    n_runs: int
    n_test: int
    threshold: float
    true_positives: int
    false_positives: int
    alpha: float
    tpr_low: float
    fpr_high: float
    detectable_by_pair: float
    detectable_epsilon: float
    false_positive_rates: tuple[float, ...]
    true_positive_rates: tuple[float, ...]
    limits: tuple[float, ...]

    @property
    def epsilon_low(self) -> float:
        return two_world_epsilon(self.tpr_low, self.fpr_high, self.claim.delta)

    @property
    def mu_low(self) -> float:
        return two_world_mu(self.tpr_low, self.fpr_high)

    @property
    def epsilon_low_gaussian(self) -> float:
        """Returns ``mu_low`` as an epsilon at ``claim.delta``."""
        return gaussian_epsilon(self.mu_low, self.claim.delta)

    @property
    def bounds(self) -> tuple[Bound, Bound]:
        return (
            Bound("(epsilon, delta)", self.epsilon_low, self.detectable_by_pair),
            Bound("f-DP", self.epsilon_low_gaussian, self.detectable_epsilon),
        )

    @property
    def passed(self) -> bool:
        return self.tpr_low <= float(self.claim.blow_up(self.fpr_high))

    @property
    def sentence(self) -> str:
        seen = (
            f"{self.true_positives} true and {self.false_positives} false positives in "
            f"{self.n_test} runs each"
        )
        if self.passed:
            return f"{power_sentence(self.claim, self.bounds)}; {seen}"
        return (
            f"VIOLATION: {seen}; the claim ({self.claim.sentence}) allows at most a rate of "
            f"{float(self.claim.blow_up(self.fpr_high)):.4g} where at least {self.tpr_low:.4g} was "
            f"seen, with confidence {1 - self.alpha:g}; a Gaussian "
            f"mechanism would have epsilon >= {self.epsilon_low_gaussian:.3g}"
        )

    @property
    def numbers(self) -> dict[str, Any]:
        """Returns the numbers of the result, as JSON values."""
        return {
            **self.claim.numbers,
            "n_runs": self.n_runs,
            "n_test": self.n_test,
            "threshold": self.threshold,
            "true_positives": self.true_positives,
            "false_positives": self.false_positives,
            "confidence": 1 - self.alpha,
            "mu_low": self.mu_low,
            "bounds": [asdict(bound) for bound in self.bounds],
        }


@dataclass(frozen=True)
class TwoWorldGame:
    """A game that is fixed before anything runs.

    Guarantee: a mechanism that keeps ``claim`` is accused with probability at most ``alpha``,
    whatever the scores are.

    Args:
        claim: the claim to refute, about the two worlds.
        n_runs: number of runs per world, at least 4.
        alpha: level, in (0, 1).
    """

    claim: Claim
    n_runs: int
    alpha: float = ALPHA

    def __post_init__(self) -> None:
        if self.n_runs < 4:
            raise ValueError(f"n_runs must be at least 4, got {self.n_runs}")
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must lie in (0, 1), got {self.alpha}")

    @property
    def n_test(self) -> int:
        return self.n_runs - self._n_pilot

    @property
    def _n_pilot(self) -> int:
        return self.n_runs // 4

    @cached_property
    def detectable_mu(self) -> float:
        return self._detectable_mu(self.claim.blow_up)

    @cached_property
    def detectable_by_pair(self) -> float:
        return gaussian_epsilon(self._detectable_mu(self.claim.pair), self.claim.delta)

    def _detectable_mu(self, blow_up: BlowUp) -> float:
        return detectable_mu(lambda mu: two_world_power(self.n_test, self.alpha, blow_up, mu))

    def play(
        self, run: Callable[[bool], float], advance: Callable[[], None] = lambda: None
    ) -> TwoWorld:
        """Plays once.

        Args:
            run: makes one run of the world without the record (False) or with it (True), and
                returns its score, larger where the record seems to be in.
            advance: called after each of the ``2 * n_runs`` runs.
        """
        scores = np.empty((self.n_runs, 2))
        for row in scores:
            for world in (False, True):
                row[int(world)] = run(world)
                advance()
        if not np.isfinite(scores).all():
            raise ValueError("scores must be finite numbers")
        pilot, test = np.split(scores, [self._n_pilot])
        # Half way between the worlds is best for normal scores, and varies little between pilots.
        threshold = float(np.median(pilot, axis=0).mean())
        false, true = (int(n) for n in (test > threshold).sum(0))
        points = np.quantile(test, np.linspace(1, 0, N_POINTS), method="inverted_cdf")
        rates = (test[None] > points[:, None, None]).mean(1)
        return TwoWorld(
            self.claim, self.n_runs, self.n_test, threshold, true, false, self.alpha,
            float(proportion_low(true, self.n_test, self.alpha / 2)),
            float(proportion_high(false, self.n_test, self.alpha / 2)),
            self.detectable_by_pair,
            gaussian_epsilon(self.detectable_mu, self.claim.delta),
            tuple(rates[:, 0].tolist()), tuple(rates[:, 1].tolist()),
            tuple(self.claim.blow_up(rates[:, 0]).tolist()),
        )  # fmt: skip
