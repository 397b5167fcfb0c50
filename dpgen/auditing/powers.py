"""What each test of an audit would have seen, in words: without it "no violation" says little."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dpgen.auditing.games.power import PROBABILITY, Bound
from dpgen.auditing.keys import N_KEYS
from dpgen.auditing.long_run import STRIDE
from dpgen.auditing.randomness import LIMIT
from dpgen.privacy.accounting.accountant import round_up

__all__ = ["POWERS", "power_of_game"]

# By test: the modules that hold the tests say why.
POWERS = {
    "certificate": "a file, a number or a line of the ledger that was changed after the run, "
    "unless every hash was changed with it; a price that does not follow from the stages",
    "post-processing": "another run in the place of one that a transcription was made of, where it "
    "lies beside it; not networks that somebody made of records and sealed as a transcription",
    "sensitivity": "a sum that one record can move by more than the bound, whatever the record "
    "sends in, alone or among others, in a micro-batch of any size",
    "branches": "a clip that fails in any branch that one in a thousand of these records takes, or "
    "more; not in rarer ones, nor at places beyond these records",
    "disjoint": "a record that changes the answers of two shards, by its place, its order, a "
    "capacity, a seed or what one teacher leaves to the next; not where it takes other records",
    "isolation": "gradients that depend on the row in a micro-batch or on the other rows by more "
    "than the margin of the clip; not where it takes other records or rows than these",
    "randomness": "noise whose standard deviation is 0.4 % off or whose law is not normal, and "
    f"coins of another rate or that follow each other: more than {LIMIT:g} standard errors from "
    "what is right",
    "long run": f"noise that comes back within {STRIDE**2:,} steps, scaled, moved or mixed as "
    "well, and tails that are cut below 4.4 standard deviations",
    "coins": "coins of a step that are those of another one, moved, turned around or shuffled; not "
    "where every step shuffles them anew",
    "movement": "a record that reaches a release past its clip, by any way through the whole of "
    "training, and moves it by more than the bound",
    "released": "one bit of anything released, or of what is asked, that depends on a record in "
    "another way than through the noisy answers",
    "reads": "a read of a record by anything but a mechanism that was charged",
    "run noise": "noise of a whole run that repeats, within a tensor or from one to another",
    "keys": f"keys of fewer than 33 random bits ({N_KEYS:,} were drawn), a bit of a key that moves "
    "nothing, and keys made of what is published, of the time or of small numbers; not keys of 40 "
    "bits or more that come from elsewhere",
}


def power_of_game(bounds: Sequence[Bound]) -> str:
    """Says which epsilon a game would have seen, by each of its bounds that sees any.

    >>> power_of_game([Bound("a", 0.1, 4.561), Bound("b", 0.1, math.inf), Bound("c", 0.1, 9.0)])
    'in 90 % of such games, a mechanism whose epsilon is at least 9 by c, or 4.57 by a'
    >>> power_of_game([Bound("b", 0.1, math.inf)])
    'no epsilon, however large: the game is too small'
    """
    able = sorted(
        (bound for bound in bounds if math.isfinite(bound.detectable)),
        key=lambda bound: -bound.detectable,
    )
    if not able:
        return "no epsilon, however large: the game is too small"
    each = (f"{round_up(bound.detectable):g} by {bound.name.strip(',')}" for bound in able)
    return (
        f"in {100 * PROBABILITY:g} % of such games, a mechanism whose epsilon is at least "
        f"{', or '.join(each)}"
    )
