"""Both games with white-box canaries, on the production mechanisms themselves, each run under a
fresh key.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from dpgen.auditing.games.canaries import canary_scores
from dpgen.auditing.games.claims import mechanism_claim
from dpgen.auditing.games.one_run import ALPHA as ONE_RUN_ALPHA
from dpgen.auditing.games.one_run import OneRun, best_game
from dpgen.auditing.games.two_world import ALPHA as TWO_WORLD_ALPHA
from dpgen.auditing.games.two_world import TwoWorld, TwoWorldGame
from dpgen.privacy.accounting.accountant import Adjacency
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum, OfRecords
from dpgen.privacy.mechanisms.ensemble import NoisyEnsemble

N_OTHERS = 7  # records that are in both worlds
MICRO_BATCH = 4  # so small that the canary shares a micro-batch with some of them, not with all


def sharpened(
    mechanism: OfRecords, adjacency: Adjacency, *, mu: float = 1.0, n_steps: int = 2
) -> OfRecords:
    """Returns the mechanism with the noise multiplier at which it is exactly ``mu``-GDP, a NoisySGD
    with ``n_steps`` steps on all records, a NoisyEnsemble with as many queries. At the multiplier
    and the rate of a plan one step leaks too little for any feasible number of runs to expose a
    mistake. Clip norm, bound and denominator stay the same.
    """
    multiplier = (2.0 if adjacency == "replace_one" else 1.0) / mu
    if isinstance(mechanism, NoisySum):
        return replace(mechanism, noise_multiplier=multiplier)
    multiplier *= math.sqrt(n_steps)
    if isinstance(mechanism, NoisyEnsemble):
        return replace(mechanism, n_queries=n_steps, noise_multiplier=multiplier)
    return replace(mechanism, rate=1.0, n_steps=n_steps, noise_multiplier=multiplier)


def two_world(
    mechanism: OfRecords,
    *,
    adjacency: Adjacency,
    delta: float,
    n_runs: int = 1000,
    alpha: float = TWO_WORLD_ALPHA,
    advance: Callable[[], None] = lambda: None,
) -> TwoWorld:
    """Plays the two-world game with one white-box canary among a few other records, on the
    production mechanism (usually one from `sharpened`), each run under a fresh key.

    Args:
        n_runs: number of runs per world.
        advance: called after each of the ``2 * n_runs`` runs.
    """
    absent = -1.0 if adjacency == "replace_one" else 0.0

    def run(world: bool) -> float:
        versions = np.array([1.0 if world else absent])
        found = canary_scores(mechanism, versions, n_others=N_OTHERS, micro_batch=MICRO_BATCH)
        return float(found[0])

    claim = mechanism_claim(mechanism, delta, adjacency)
    return TwoWorldGame(claim, n_runs, alpha).play(run, advance)


def one_run(
    mechanism: OfRecords,
    *,
    adjacency: Adjacency,
    delta: float,
    m: int = 1000,
    n_steps: int | None = None,
    alpha: float = ONE_RUN_ALPHA,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> OneRun:
    """Plays the one-run game with white-box canaries, on the production mechanism at its own rate,
    clip and noise, and the two-world game with the same scores.

    Guarantee: a correct mechanism is accused with probability at most ``alpha`` by the first game
    and at most the default level of `TwoWorldGame` by the second.

    Args:
        m: number of canaries, at least 20.
        n_steps: run only the first so many steps of a NoisySGD, or queries of a NoisyEnsemble; the
            claim is then that of those that run, and says so.
        advance: called after each release.
    """
    if m < 20:
        raise ValueError(f"m must be at least 20, got {m}")
    planned = mechanism.n_releases
    if n_steps is not None and not 1 <= n_steps <= planned:
        raise ValueError(f"n_steps must lie in [1, {planned}], got {n_steps}")
    if isinstance(mechanism, NoisySGD) and n_steps is not None:
        mechanism = replace(mechanism, n_steps=n_steps)
    if isinstance(mechanism, NoisyEnsemble) and n_steps is not None:
        mechanism = replace(mechanism, n_queries=n_steps)
    claim = mechanism_claim(mechanism, delta, adjacency, of=planned)
    absent = -1.0 if adjacency == "replace_one" else 0.0
    scores = {False: np.empty(0), True: np.empty(0)}

    def run(coins: np.ndarray) -> np.ndarray:
        found = canary_scores(mechanism, np.where(coins, 1.0, absent), advance=advance)
        scores.update({world: found[coins == world] for world in scores})
        return found

    found = best_game(claim, m, alpha, seed).play(run)
    # If these mechanisms are as claimed, canaries along orthogonal directions are independent of
    # each other, so that each counts as a run of its own. Otherwise there is a bug to detect.
    alone = replace(claim, scope=f"{claim.scope}, each canary taken for a run of its own")
    queues = {world: iter(values) for world, values in scores.items()}
    n_runs = min(map(len, scores.values()))
    worlds = TwoWorldGame(alone, n_runs).play(lambda world: float(next(queues[world])))
    return replace(found, worlds=worlds)
