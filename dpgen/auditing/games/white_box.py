"""Both games with canaries in the white box: on the production mechanisms themselves, each run
under a fresh key.
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
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum

N_OTHERS = 7  # records in both worlds
MICRO_BATCH = 4  # the canary shares a micro-batch with some of them, not with all


def sharpened(
    mechanism: NoisySGD | NoisySum, adjacency: Adjacency, *, mu: float = 1.0, n_steps: int = 2
) -> NoisySGD | NoisySum:
    """The mechanism with the multiplier at which it is exactly ``mu``-GDP, a NoisySGD in
    ``n_steps`` steps on all records: at the multiplier and the rate of a plan one step leaks too
    little for any number of runs to show a mistake. Clip norm, bound and denominator stay.
    """
    multiplier = (2.0 if adjacency == "replace_one" else 1.0) / mu
    if isinstance(mechanism, NoisySum):
        return replace(mechanism, noise_multiplier=multiplier)
    return replace(
        mechanism, rate=1.0, n_steps=n_steps, noise_multiplier=multiplier * math.sqrt(n_steps)
    )


def two_world(
    mechanism: NoisySGD | NoisySum,
    *,
    adjacency: Adjacency,
    delta: float,
    n_runs: int = 1000,
    alpha: float = TWO_WORLD_ALPHA,
    advance: Callable[[], None] = lambda: None,
) -> TwoWorld:
    """Plays the game with one canary in the white box among a few other records, on the production
    mechanism, each run under a fresh key. Usually on what `sharpened` gives.

    Args:
        n_runs: per world.
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
    mechanism: NoisySGD | NoisySum,
    *,
    adjacency: Adjacency,
    delta: float,
    m: int = 1000,
    n_steps: int | None = None,
    alpha: float = ONE_RUN_ALPHA,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> OneRun:
    """Plays the game with canaries in the white box, on the production mechanism at its own rate,
    clip and noise; and with the same scores the two-world game.

    Guarantee: a correct mechanism is accused with probability at most ``alpha`` by the one and at
    most that of `TwoWorldGame` by the other.

    Args:
        m: canaries, at least 20.
        n_steps: of a NoisySGD, only its first so many steps; the claim is then that of the steps
            that run, and says so.
        advance: called after each release.
    """
    if m < 20:
        raise ValueError(f"m must be at least 20, got {m}")
    planned = mechanism.n_releases
    if n_steps is not None and not 1 <= n_steps <= planned:
        raise ValueError(f"n_steps must lie in [1, {planned}], got {n_steps}")
    if isinstance(mechanism, NoisySGD) and n_steps is not None:
        mechanism = replace(mechanism, n_steps=n_steps)
    claim = mechanism_claim(mechanism, delta, adjacency, of=planned)
    absent = -1.0 if adjacency == "replace_one" else 0.0
    scores = {False: np.empty(0), True: np.empty(0)}

    def run(coins: np.ndarray) -> np.ndarray:
        found = canary_scores(mechanism, np.where(coins, 1.0, absent), advance=advance)
        scores.update({world: found[coins == world] for world in scores})
        return found

    found = best_game(claim, m, alpha, seed).play(run)
    # In these mechanisms as they are claimed, canaries along orthogonal directions are independent
    # of each other, so that each is a run of its own. Where that is not so, something is broken.
    alone = replace(claim, scope=f"{claim.scope}, each canary taken for a run of its own")
    queues = {world: iter(values) for world, values in scores.items()}
    n_runs = min(map(len, scores.values()))
    worlds = TwoWorldGame(alone, n_runs).play(lambda world: float(next(queues[world])))
    return replace(found, worlds=worlds)
