"""The one-run game: many canaries, each in or out by a fair coin, one run, and a count of correct
guesses (Steinke, Nasr and Jagielski 2023; Mahloujifar, Melis and Chaudhuri 2025).

Nothing can be chosen after looking at results. The number of canaries, the number of guesses and
the level are fields of the game. The coins are derived from these: a game with one more guess has
other coins, for which the old scores are worthless. The game itself asks for the scores, once, and
its result contains none of them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dpgen.auditing.games.bounds import (
    fewest_correct,
    gaussian_epsilon,
    one_run_epsilon,
    one_run_mu,
    one_run_p_value,
    one_run_refutes,
)
from dpgen.auditing.games.claims import Claim
from dpgen.auditing.games.power import Bound, detectable_mu, one_run_power, power_sentence
from dpgen.auditing.games.two_world import TwoWorld

# A correct Gaussian mechanism is accused far less often than this: the theorems allow for arbitrary
# dependence between canaries. At 0.001 no number of correct guesses would refute an epsilon of 10.
ALPHA = 0.05
SHARES = (0.05, 0.1, 0.2, 0.5, 1.0)  # candidate shares of the canaries that are guessed


@dataclass(frozen=True)
class OneRun:
    """The result of a one-run game.

    Args:
        claim: the claim that was tested.
        m, n_guesses, n_correct: numbers of canaries, of guesses and of correct guesses.
        fewest: smallest number of correct guesses that would have refuted the claim; None where no
            number would.
        alpha: probability with which a correct mechanism is accused, at most.
        epsilon_low: the mechanism is not (epsilon, ``claim.delta``)-DP for any epsilon below this.
        mu_low: the mechanism is not mu-GDP for any mu below this. Both hold at once with confidence
            1 - alpha, because they follow from the same count.
        detectable_by_pair, detectable_by_curve: epsilons that would have been detected by the
            printed epsilon and delta alone, and by the whole claim; see `power`.
        worlds: the two-world game with each canary as a run of its own; None where canaries may
            depend on each other.
    """

    claim: Claim
    m: int
    n_guesses: int
    n_correct: int
    fewest: int | None
    alpha: float
    epsilon_low: float
    mu_low: float
    detectable_by_pair: float
    detectable_by_curve: float
    worlds: TwoWorld | None = None

    @property
    def epsilon_low_gaussian(self) -> float:
        """Returns ``mu_low`` as an epsilon at ``claim.delta``."""
        return gaussian_epsilon(self.mu_low, self.claim.delta)

    @property
    def detectable_epsilon(self) -> float:
        """Returns the smaller of the two detectable epsilons."""
        return min(self.detectable_by_pair, self.detectable_by_curve)

    @property
    def bounds(self) -> tuple[Bound, ...]:
        found = (
            Bound("(epsilon, delta)", self.epsilon_low, self.detectable_by_pair),
            Bound("f-DP", self.epsilon_low_gaussian, self.detectable_by_curve),
        )
        if self.worlds is None:
            return found
        alone, worlds = "f-DP, if canaries are independent of each other,", self.worlds
        return (*found, Bound(alone, worlds.epsilon_low_gaussian, worlds.detectable_epsilon))

    @property
    def refuted(self) -> bool:
        """Returns whether the count of correct guesses refutes the claim, however the canaries
        depend on each other.
        """
        return self.fewest is not None and self.n_correct >= self.fewest

    @property
    def passed(self) -> bool:
        return not self.refuted and (self.worlds is None or self.worlds.passed)

    @property
    def sentence(self) -> str:
        guessed = f"{self.n_correct} of {self.n_guesses} guesses right"
        if self.refuted:
            return (
                f"VIOLATION: {guessed}; under the claim ({self.claim.sentence}) at least "
                f"{self.fewest} have probability below {self.alpha:g}; a Gaussian mechanism would "
                f"have epsilon >= {self.epsilon_low_gaussian:.3g}"
            )
        if self.worlds is not None and not self.worlds.passed:
            return self.worlds.sentence
        return f"{power_sentence(self.claim, self.bounds)}; {guessed}"

    @property
    def numbers(self) -> dict[str, Any]:
        """Returns the numbers of the result, as JSON values."""
        return {
            **self.claim.numbers,
            "m": self.m,
            "n_guesses": self.n_guesses,
            "n_correct": self.n_correct,
            "fewest": self.fewest,
            "confidence": 1 - self.alpha,
            "mu_low": self.mu_low,
            "bounds": [asdict(bound) for bound in self.bounds],
            "worlds": None if self.worlds is None else self.worlds.numbers,
        }


@dataclass(frozen=True)
class OneRunGame:
    """A game that is fixed before anything runs.

    Guarantee: a mechanism that keeps ``claim`` is accused with probability at most ``alpha``,
    whatever the scores are.

    Args:
        claim: the claim to refute, about the neighbours that a coin chooses between.
        m: number of canaries.
        n_guesses: number of canaries that are guessed: those with the highest and lowest scores.
        alpha: level, in (0, 1).
        seed: seed of the coins; no private noise comes from it.
    """

    claim: Claim
    m: int
    n_guesses: int
    alpha: float = ALPHA
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.n_guesses <= self.m:
            raise ValueError(f"n_guesses must lie in [1, m = {self.m}], got {self.n_guesses}")
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must lie in (0, 1), got {self.alpha}")

    @cached_property
    def fewest(self) -> int | None:
        """Returns the number of correct guesses that refutes: the smaller one by two theorems about
        one count, so that together they accuse no more often than alpha.
        """
        found = [n for n in (self.fewest_by_pair, self.fewest_by_curve) if n is not None]
        return min(found, default=None)

    @cached_property
    def fewest_by_pair(self) -> int | None:
        claim, m, r = self.claim, self.m, self.n_guesses

        def refutes(n_correct: int) -> bool:
            p = one_run_p_value(m, r, n_correct, claim.epsilon, claim.delta)
            return p <= self.alpha

        return fewest_correct(r, refutes)

    @cached_property
    def fewest_by_curve(self) -> int | None:
        m, r, inverse = self.m, self.n_guesses, self.claim.blow_up.inverse
        return fewest_correct(r, lambda n: one_run_refutes(m, r, n, self.alpha, inverse))

    @cached_property
    def detectable_mu(self) -> float:
        return self._detectable_mu(self.fewest)

    def _detectable_mu(self, fewest: int | None) -> float:
        if fewest is None:
            return math.inf
        return detectable_mu(lambda mu: one_run_power(self.m, self.n_guesses, fewest, mu))

    @cached_property
    def detectable_by_pair(self) -> float:
        return gaussian_epsilon(self._detectable_mu(self.fewest_by_pair), self.claim.delta)

    @cached_property
    def detectable_by_curve(self) -> float:
        return gaussian_epsilon(self._detectable_mu(self.fewest_by_curve), self.claim.delta)

    def play(self, run: Callable[[np.ndarray], np.ndarray]) -> OneRun:
        """Plays once.

        Args:
            run: maps coins (m,) bool, True for the canaries that are in, to scores (m,), larger
                where a canary seems to be in.
        """
        coins = self._coins()
        scores = np.asarray(run(coins.copy()), dtype=np.float64)
        if scores.shape != (self.m,) or not np.isfinite(scores).all():
            raise ValueError(f"scores must be {self.m} finite numbers, got shape {scores.shape}")
        n_correct = _n_correct(coins, scores, self.n_guesses)
        m, r, alpha, delta = self.m, self.n_guesses, self.alpha, self.claim.delta
        return OneRun(
            self.claim, m, r, n_correct, self.fewest, alpha,
            one_run_epsilon(m, r, n_correct, alpha, delta),
            one_run_mu(m, r, n_correct, alpha),
            self.detectable_by_pair,
            self.detectable_by_curve,
        )  # fmt: skip

    def _coins(self) -> np.ndarray:
        design = f"{self.seed} {self.m} {self.n_guesses} {self.alpha!r}"
        digest = hashlib.sha256(design.encode()).digest()
        return np.random.default_rng(int.from_bytes(digest, "big")).random(self.m) < 0.5


def _n_correct(coins: np.ndarray, scores: np.ndarray, n_guesses: int) -> int:
    """Counts the correct guesses, with the highest scores guessed in and the lowest out. The number
    of each is read off the scores, which is allowed: they are split half way between their
    quartiles, so that two clusters are separated without a mistake, however the coins fell.
    """
    split = (np.quantile(scores, 0.25) + np.quantile(scores, 0.75)) / 2
    n_in = round(n_guesses * float((scores > split).mean()))
    order = np.argsort(scores, kind="stable")
    guessed_in, guessed_out = order[len(order) - n_in :], order[: n_guesses - n_in]
    return int(coins[guessed_in].sum() + (~coins[guessed_out]).sum())


def best_game(claim: Claim, m: int, alpha: float = ALPHA, seed: int = 0) -> OneRunGame:
    """Chooses the game that detects the smallest epsilon, of those that guess a share in
    ``SHARES``, from public numbers alone.
    """
    guesses = sorted({max(1, round(share * m)) for share in SHARES})
    games = [OneRunGame(claim, m, n_guesses, alpha, seed) for n_guesses in reversed(guesses)]
    return min(games, key=lambda game: game.detectable_mu)
