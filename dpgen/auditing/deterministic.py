"""The deterministic tests of an audit, as findings: for every stage, and for the run as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dpgen.auditing import keys
from dpgen.auditing.branches import branches
from dpgen.auditing.chances import LEVEL, Chances
from dpgen.auditing.coins import coins
from dpgen.auditing.disjoint import Disjoint, disjoint
from dpgen.auditing.findings import Finding
from dpgen.auditing.isolation import Asked, Isolation, isolation
from dpgen.auditing.long_run import long_run, of_a_run
from dpgen.auditing.oracle import Oracle, oracle
from dpgen.auditing.powers import POWERS
from dpgen.auditing.randomness import LIMIT, randomness
from dpgen.auditing.replay import Replay
from dpgen.auditing.worlds import World
from dpgen.images.images import PublicFacts
from dpgen.privacy.mechanisms.clipping import MARGIN
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum, OfRecords
from dpgen.privacy.mechanisms.ensemble import NoisyEnsemble
from dpgen.privacy.plan import Stage

DETERMINISTIC = "deterministic"
N_TESTS = 4  # tests of a stage, each of which advances the progress bar


def of_stage(
    stage: Stage, base: World, facts: PublicFacts, seed: int, advance: Callable[[], None]
) -> Iterator[Finding]:
    """Tests how much of a record a mechanism lets through, in every branch and at every position;
    then its noise and its coins.

    Args:
        base: a run of the same plan, from which the stage's question and the size of its tensors
            are taken.
    """
    mechanism, asked = stage.of_records, base.asked.get(stage.label)
    if isinstance(mechanism, NoisyEnsemble):
        yield _sensitivity(stage, oracle(mechanism))
        advance()
        if (fit := base.taught.get(stage.label)) is not None:
            yield _disjoint(stage, disjoint(mechanism, fit, facts, seed=seed))
        advance()
        yield from _noise(stage, mechanism, base, advance)
        return
    objective = asked.question[0] if asked is not None and asked.question else None
    loss = None if objective is None else objective.loss
    yield _sensitivity(stage, oracle(mechanism, loss=loss))
    yield _branches(stage, mechanism, asked, facts, seed)
    advance()
    if asked is not None:
        yield _isolation(stage, isolation(asked, facts, seed=seed))
    advance()
    yield from _noise(stage, mechanism, base, advance)


def _noise(
    stage: Stage, mechanism: OfRecords, base: World, advance: Callable[[], None]
) -> Iterator[Finding]:
    drawn = randomness(mechanism)
    yield Finding(
        DETERMINISTIC, f"{stage.label}: randomness", drawn.passed,
        f"worst of {len(drawn.scores)} z-scores is {drawn.scores[drawn.worst]:.1f} "
        f"({drawn.worst}), limit {LIMIT:g}",
        {"scores": dict(drawn.scores), "distinct": drawn.distinct}, power=POWERS["randomness"],
    )  # fmt: skip
    advance()
    sizes = [part.numel() for (plan, *_), part in base.before.items() if plan == stage.charge.plan]
    found = long_run(mechanism, n_words=max(sizes, default=0))
    yield _chances(f"{stage.label}: noise that comes back, and its tails", found, "long run")
    if isinstance(mechanism, NoisySGD):
        yield _chances(f"{stage.label}: coins that know of each other", coins(mechanism), "coins")
    advance()


def _sensitivity(stage: Stage, moved: Oracle) -> Finding:
    return Finding(
        DETERMINISTIC, f"{stage.label}: sensitivity", moved.passed,
        f"{len(moved.moved)} made-up records moved the sum by at most {moved.largest:.5f} of the "
        "bound",
        {"moved": dict(moved.moved)}, power=POWERS["sensitivity"],
    )  # fmt: skip


def _disjoint(stage: Stage, found: Disjoint) -> Finding:
    return Finding(
        DETERMINISTIC, f"{stage.label}: a record and its shard", found.passed,
        f"each of {found.n_removed} records changed the answers of at most {found.n_changed} "
        f"shards, by at most {found.farthest:.5f} of the bound; one is allowed",
        {"changed": found.n_changed, "farthest": found.farthest}, power=POWERS["disjoint"],
    )  # fmt: skip


def _branches(
    stage: Stage, mechanism: NoisySGD | NoisySum, asked: Asked | None, facts: PublicFacts, seed: int
) -> Finding:
    objective = asked.question[0] if asked is not None and asked.question else None
    found = branches(mechanism, facts.shape, facts.n_classes, objective, seed=seed)
    return Finding(
        DETERMINISTIC, f"{stage.label}: a record's share in every branch", found.passed,
        f"{found.n_records} records, of all classes, draws and places, were at most "
        f"{found.largest[found.worst]:.7f} of the bound ({found.worst}), {1 / MARGIN:.7f} allowed",
        {"largest": dict(found.largest)}, power=POWERS["branches"],
    )  # fmt: skip


def _isolation(stage: Stage, found: Isolation) -> Finding:
    allowed = 1 - 1 / MARGIN
    return Finding(
        DETERMINISTIC, f"{stage.label}: rows and neighbours in a micro-batch", found.passed,
        f"on {found.device}, what a record contributes moved by at most {found.moved:.1g} of the "
        f"bound over {found.n_places} places, {found.of_a_sum:.1g} for a sum of {found.n_records}, "
        f"{allowed:.1g} allowed; one record alone was at most {found.share:.7f} of the bound",
        {"moved": found.moved, "of_a_sum": found.of_a_sum, "allowed": allowed,
         "share": found.share, "device": found.device},
        power=POWERS["isolation"],
    )  # fmt: skip


def _chances(name: str, found: Chances, test: str) -> Finding:
    wrong = f"not by chance: {', '.join(found.accused)}; " if found.accused else ""
    return Finding(
        DETERMINISTIC, name, found.passed,
        f"{wrong}least chance of {len(found.values)} is {found.values[found.worst]:.1g} "
        f"({found.worst}), limit {LEVEL:g}",
        {"chances": dict(found.values)}, power=POWERS[test],
    )  # fmt: skip


def of_replay(found: Replay) -> Iterator[Finding]:
    """Tests how far neighbours moved the releases, and which outputs reveal them; then the noise
    and the keys of the recorded run.
    """
    yield from (_movement(found, label) for label in found.moved)
    yield _released(found)
    seen = f"read by {', '.join(found.outside)}" if found.outside else "by mechanisms alone"
    yield Finding(
        DETERMINISTIC, "records are read", not found.outside, seen, power=POWERS["reads"]
    )
    yield _chances("noise of a whole run", of_a_run(found.base.noise), "run noise")
    yield _keys(found.base)


def _keys(base: World) -> Finding:
    n_equal, n_idle = keys.n_equal_keys(), keys.idle_bits()
    made = list(keys.guesses(base.published, base.names))
    right = [of for plan, source in base.sources.items()
             if (of := keys.guessed(source, plan, made)) is not None]  # fmt: skip
    seen = [
        f"{n_equal} of {keys.N_KEYS} new keys were there before",
        f"{n_idle} of {keys.N_BITS} bits of a key move nothing",
        f"of {len(made)} guesses " + (f"right: {', '.join(right)}" if right else "none is right"),
    ]
    return Finding(
        DETERMINISTIC, "keys", not (n_equal or n_idle or right), "; ".join(seen),
        {"equal": n_equal, "idle_bits": n_idle, "guesses": len(made), "right": right},
        power=POWERS["keys"],
    )  # fmt: skip


def _movement(found: Replay, label: str) -> Finding:
    moved = found.moved[label]
    largest = max(moved.values(), default=0.0)
    idle = "; no neighbour moved it, so this says nothing" if label in found.idle else ""
    return Finding(
        DETERMINISTIC,
        f"{label}: neighbours before the noise",
        largest <= found.allowed and not idle,
        f"{len(moved)} neighbours moved a release by at most {largest:.5f} of the bound, "
        f"{found.allowed:g} allowed{idle}",
        {"moved": dict(moved), "allowed": found.allowed},
        power=POWERS["movement"],
    )


def _released(found: Replay) -> Finding:
    wrong = {name: files for name, files in found.different.items() if files}
    seen = "; ".join(f"{name} shows in {', '.join(files)}" for name, files in wrong.items())
    return Finding(
        DETERMINISTIC,
        "everything released, under one transcript",
        not wrong,
        seen or f"bit-equal for {len(found.different)} neighbours",
        {"different": {name: list(files) for name, files in wrong.items()}},
        power=POWERS["released"],
    )
