"""Runs the tests of `dpgen audit`, each of which can show that a run's epsilon is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from dpgen.auditing.deterministic import DETERMINISTIC, N_TESTS, of_replay, of_stage
from dpgen.auditing.findings import Audit, Curve, Finding
from dpgen.auditing.games.claims import claim_of
from dpgen.auditing.games.one_run import best_game
from dpgen.auditing.games.two_world import TwoWorld
from dpgen.auditing.games.white_box import one_run, sharpened, two_world
from dpgen.auditing.label_canaries import label_canary_scores, with_canaries
from dpgen.auditing.powers import POWERS, power_of_game
from dpgen.auditing.replay import Replay, hurried, replay
from dpgen.auditing.stand_ins import neighbours, public_stand_ins
from dpgen.generator.interface import PrivateGenerator
from dpgen.images.images import PublicFacts
from dpgen.privacy.accounting.events import event_to_json
from dpgen.privacy.mechanisms.declared import NoisySGD
from dpgen.privacy.mechanisms.ensemble import NoisyEnsemble
from dpgen.privacy.plan import Plan, Stage
from dpgen.privacy.statements.attack import attack_sentences
from dpgen.privacy.statements.certificate import CERTIFICATE, sha256_file
from dpgen.privacy.statements.notice import UnverifiedClaim
from dpgen.privacy.statements.public_start import KEY
from dpgen.privacy.verification.transcription import chain_checks
from dpgen.privacy.verification.verify import verify
from dpgen.progress import progress_bar
from dpgen.runs.context import Hardware
from dpgen.runs.initial_weights import InitialWeights

TWO_WORLDS, ONE_RUN = "two worlds", "one run"
N_RUNS = 1000  # of the two-world game, per world
# An audit plays several games: at these levels it accuses a correct run about once in a hundred.
N_CANARIES, ALPHA = 5000, 1e-3  # of the one-run game, in the white box
LABEL_ALPHA = 0.01  # a lower one would leave too little power to a few hundred canaries
MOST_QUERIES = 8  # of an ensemble in a one-run game
MOST_GRADIENTS = 200_000  # of canaries in a one-run game: the first steps of a long stage


def audit(
    generator: PrivateGenerator, *, games: bool = True, n_label_canaries: int = 0, seed: int = 0,
    hardware: Hardware | None = None, show: bool = False,
) -> Audit:  # fmt: skip
    """Audits a finished run: its configuration, not its records, which are not needed.

    Args:
        generator: fitted or loaded, from a run with a certificate; its folder is verified too. Of a
            transcription it is what `dpgen.methods.loading.load_trained` returns.
        games: whether to play the games, too; the deterministic tests take about a minute.
        n_label_canaries: if not 0, train once more with this number of reserved-label canaries, at
            least 20, which takes about as long as the run did.
        seed: seed of stand-in records and all public randomness; private noise has fresh keys.
        hardware: the hardware of the run: the rounding of a gradient depends on the device, the
            precision and the micro-batch. None takes the default of `fit`.
        show: whether to show progress bars.

    Raises:
        NotFitted: the generator has learned nothing yet.
        UnverifiedClaim: the run carries a notice: there is no claim to audit.
        ValueError: this version would charge other events than the run was charged.
    """
    if n_label_canaries and n_label_canaries < 20:
        raise ValueError(f"n_label_canaries must be 0 or at least 20, got {n_label_canaries}")
    facts, folder = generator.facts, generator.folder
    if not generator.certified:
        raise UnverifiedClaim(
            f"{folder or generator.mechanism_id} carries a notice, not a certificate: "
            "`audit_claim` tries what its paper claims"
        )
    statement = generator.privacy
    assert facts is not None and folder is not None
    plan = generator.plan(facts)
    for stage in plan.stages:
        stage.of_records  # noqa: B018  refused before anything is trained
    if event_to_json(plan.event) != statement["accounting"]["events"]:
        raise ValueError(
            f"{folder} was charged other events than this version plans for its settings: audit it "
            f"with dpgen {statement['mechanism']['version']}"
        )
    findings = [_certificate(folder), *_transcription(folder, statement)]
    n_worlds = 1 + len(neighbours(facts, seed)[1])
    with progress_bar("neighbour replay", n_worlds, show=show) as advance:
        found = _replayed(generator, plan, facts, seed, hardware or Hardware(), advance)
    with progress_bar("mechanisms", N_TESTS * len(plan.stages), show=show) as advance:
        for stage in plan.stages:
            findings += of_stage(stage, found.base, facts, seed, advance)
    findings += of_replay(found)
    if games:
        findings += _games(plan, facts, generator.budget.delta, seed, show)
    if n_label_canaries:
        findings.append(_label_canaries(generator, plan, facts, n_label_canaries, seed, show))
    return Audit(
        folder.absolute().name, statement["sha256"], statement["statement"], findings,
        files={CERTIFICATE: sha256_file(folder / CERTIFICATE), **statement["artifact"]["files"]},
        meaning=attack_sentences(statement),
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", version=version("dpgen"),
    )  # fmt: skip


def _certificate(folder: Path) -> Finding:
    checks = verify(folder)
    wrong = [check.name for check in checks if check.failed]
    made = sum(check.held is not None for check in checks)
    seen = f"does not hold: {', '.join(wrong)}" if wrong else f"{made} checks passed"
    return Finding(DETERMINISTIC, "certificate", not wrong, seen, power=POWERS["certificate"])


def _transcription(folder: Path, statement: Mapping[str, Any]) -> Iterator[Finding]:
    """Finds whether a transcription is made of the runs that it names; nothing for other runs."""
    checks = list(chain_checks(folder, statement))
    if not checks:
        return
    seen = "; ".join(f"{check.name}: {check.seen}" for check in checks)
    yield Finding(
        DETERMINISTIC, "post-processing", not any(check.failed for check in checks),
        f"made of released networks, without records: all that follows is about the events of "
        f"{statement['mechanism']['id']}, of the run at its beginning. {seen}",
        power=POWERS["post-processing"],
    )  # fmt: skip


def _replayed(
    generator: PrivateGenerator, plan: Plan, facts: PublicFacts, seed: int, hardware: Hardware,
    advance: Callable[[], None],
) -> Replay:  # fmt: skip
    settings = hurried(generator.settings)

    def make() -> PrivateGenerator:
        return _unfitted(generator, settings, facts, seed)

    if make().plan(facts) != plan:
        raise RuntimeError("settings that were hurried must not change the plan")
    return replay(make, facts, seed=seed, hardware=hardware, advance=advance)


def _unfitted(
    generator: PrivateGenerator, settings: Any, facts: PublicFacts, seed: int  # noqa: ANN401
) -> PrivateGenerator:
    """Makes a generator like another one, which has learned nothing. Where the run of that one
    started from public images or other weights it starts from stand-ins of them, the same in every
    world.
    """
    kind: Callable[..., PrivateGenerator] = type(generator)
    made = kind(budget=generator.budget, settings=settings)
    started = generator.privacy.get(KEY, {})
    if "images" in started:
        public = public_stand_ins(facts, seed)
        made.fit = partial(made.fit, public=public)  # type: ignore[method-assign]
    if "weights" in started:
        weights = InitialWeights.made_up(settings.teacher.init, facts.shape, seed)
        made.fit = partial(made.fit, init=weights)  # type: ignore[method-assign]
    return made


def _games(
    plan: Plan, facts: PublicFacts, delta: float, seed: int, show: bool
) -> Iterator[Finding]:
    """Plays both games on every stage's own mechanism, with white-box canaries."""
    adjacency = facts.adjacency
    with progress_bar("two worlds", 2 * N_RUNS * len(plan.stages), show=show) as advance:
        for stage in plan.stages:
            mechanism = sharpened(stage.of_records, adjacency)
            worlds = two_world(
                mechanism, adjacency=adjacency, delta=delta, n_runs=N_RUNS, advance=advance
            )
            name = f"{stage.label}: with so little noise that it is 1-GDP"
            yield Finding(
                TWO_WORLDS, name, worlds.passed, worlds.sentence, worlds.numbers,
                _curve(name, worlds), power_of_game(worlds.bounds),
            )  # fmt: skip
    n_steps = {stage.label: _n_steps(stage) for stage in plan.stages}
    n_releases = sum(n or 1 for n in n_steps.values())
    with progress_bar("gradient canaries", n_releases, show=show) as advance:
        for stage in plan.stages:
            found = one_run(
                stage.of_records, adjacency=adjacency, delta=delta, m=N_CANARIES,
                n_steps=n_steps[stage.label], alpha=ALPHA, seed=seed, advance=advance,
            )  # fmt: skip
            name = f"{stage.label}: {N_CANARIES} gradient canaries"
            assert found.worlds is not None
            yield Finding(
                ONE_RUN, name, found.passed, found.sentence, found.numbers,
                _curve(name, found.worlds), power_of_game(found.bounds),
            )  # fmt: skip


def _n_steps(stage: Stage) -> int | None:
    """Returns how many steps of DP-SGD, or queries, a game takes; None for a stage that has none.
    """
    if isinstance(stage.mechanism, NoisyEnsemble):
        return min(stage.mechanism.n_queries, MOST_QUERIES)
    if not isinstance(stage.mechanism, NoisySGD):
        return None
    affordable = math.ceil(MOST_GRADIENTS / (stage.mechanism.rate * N_CANARIES))
    return min(stage.mechanism.n_steps, affordable)


def _curve(title: str, worlds: TwoWorld) -> Curve:
    return Curve(title, worlds.false_positive_rates, worlds.true_positive_rates, worlds.limits)


def _label_canaries(
    generator: PrivateGenerator, plan: Plan, facts: PublicFacts, m: int, seed: int, show: bool
) -> Finding:
    """Plays the one-run game on the whole of `fit`, with the settings of the run and its plan."""

    def make() -> PrivateGenerator:
        return _unfitted(generator, generator.settings, facts, seed)

    if make().plan(with_canaries(facts, m)).event != plan.event:
        raise RuntimeError("reserved classes must not change what a run is charged")

    def run(coins: np.ndarray) -> np.ndarray:
        return label_canary_scores(make, facts, coins, seed=seed, show=show)

    claim = claim_of(plan.event, generator.budget.delta, facts.adjacency, "the whole run")
    found = best_game(claim, m, LABEL_ALPHA, seed).play(run)
    name = f"the released model: {m} reserved-label canaries"
    return Finding(
        ONE_RUN, name, found.passed, found.sentence, found.numbers,
        power=power_of_game(found.bounds),
    )  # fmt: skip
