"""Audits a run of a mode without a guarantee: what its paper claims against what can be shown.

Nothing here can end well: the claim is not verified, and each test that sees a record where the
claim has none refutes it. Stand-in records are trained on, never those of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import Any

from dpgen.auditing.deterministic import DETERMINISTIC
from dpgen.auditing.findings import Audit, Finding
from dpgen.auditing.relabelling import ALPHA, apart, data_sets, n_rounds, relabelling
from dpgen.auditing.replay import differing, lived
from dpgen.auditing.stand_ins import StandIns, neighbours
from dpgen.auditing.worlds import World
from dpgen.generator.interface import PrivateGenerator
from dpgen.images.images import PublicFacts
from dpgen.privacy.statements.certificate import NOTICE, sha256_file
from dpgen.privacy.statements.notice import Claim
from dpgen.privacy.statements.transcription import KEY
from dpgen.progress import progress_bar
from dpgen.runs.context import Hardware

TWO_WORLDS = "two worlds"
ANSWERS = "answers before the noise"
RELEASED = "everything released, under one transcript"
RELABELLED = "the only record that counts, relabelled"
GAME = "one record and the classes of the student"


def audit_claim(
    generator: PrivateGenerator, *, games: bool = True, seed: int = 0,
    hardware: Hardware | None = None, show: bool = False,
) -> Audit:  # fmt: skip
    """Audits a finished run that carries a notice: its configuration, not its records.

    Args:
        generator: fitted, or loaded with ``allow_unverified``.
        games: whether to play the relabelling game too, where the run has a student.
        seed: seed of stand-in records and all public randomness; private noise has fresh keys.
        hardware: the hardware of the run; None takes the default of `fit`.
        show: whether to show progress bars.

    Raises:
        ValueError: it is a transcription, which claims nothing of its own.
    """
    facts, folder, notice = generator.facts, generator.folder, generator.notice
    assert facts is not None and folder is not None
    if KEY in notice:
        first = next((f"run {link['folder']!r}" for link in notice[KEY]["chain"]), "")
        cure = f"audit the {first}, at its beginning" if first else "nobody claims anything of it"
        raise ValueError(
            f"{folder} is a transcription without a guarantee, which claims nothing of its own: "
            f"{cure}"
        )
    claim, hardware = generator.claim(facts), hardware or Hardware()
    findings = list(_replayed(generator, facts, seed, hardware, show))
    if games and generator.student is not None and facts.n_classes > 1:
        findings.append(_game(generator, facts, claim, seed, hardware, show))
    claimed, worst = notice["claimed"], notice["worst_case"]
    return Audit(
        folder.absolute().name, notice["sha256"],
        f"epsilon = {claimed['epsilon']:g} at delta = {claimed['delta']:g} by {claimed['by']}",
        findings, files={NOTICE: sha256_file(folder / NOTICE), **notice["artifact"]["files"]},
        meaning=[f"Worst case: epsilon = {worst['epsilon']}. {notice['reason']}"],
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", version=version("dpgen"), document=NOTICE,
    )  # fmt: skip


def allowed(generator: PrivateGenerator, settings: Any) -> PrivateGenerator:  # noqa: ANN401
    """Makes a generator like another one, which has learned nothing and may run unverified."""
    kind: Callable[..., PrivateGenerator] = type(generator)
    made = kind(budget=generator.budget, settings=settings)
    made.fit = partial(made.fit, allow_unverified=True)  # type: ignore[method-assign]
    return made


def _replayed(
    generator: PrivateGenerator, facts: PublicFacts, seed: int, hardware: Hardware, show: bool
) -> Iterator[Finding]:
    """Replays neighbours forced to one transcript. By every paper a record moves one answer of a
    release, at most from one end of the ball in which it lies to the other.
    """
    make = partial(allowed, generator, _shortened(generator.settings, "hurried"))
    multiplier = make().claim(facts).settings.get("noise_multiplier")
    moved: dict[str, float] = {}
    shown: dict[str, tuple[str, ...]] = {}
    groups = _compared(facts, seed)
    n_worlds = sum(1 + len(others) for _, others, _ in groups)
    with progress_bar("neighbour replay", n_worlds, show=show) as advance:
        for records, others, n_apart in groups:
            base = lived(make, records, facts, World(), seed, hardware)
            advance()
            for name, source in others.items():
                world = lived(make, source, facts, World(base), seed, hardware)
                shown[name] = differing(base, world)
                if multiplier is not None:
                    moved[name] = _farthest(base, world, float(multiplier)) / n_apart
                advance()
    if moved:
        largest = max(moved.values())
        yield Finding(
            DETERMINISTIC, ANSWERS, largest <= 2,
            f"{len(moved)} neighbours moved a release by at most {largest:.4g} times the bound of "
            "one answer, 2 allowed by the claim",
            {"moved": moved, "allowed": 2.0},
            power="a record that moves more than one answer of a release",
        )  # fmt: skip
    wrong = {name: files for name, files in shown.items() if files}
    seen = "; ".join(f"{name} shows in {', '.join(files)}" for name, files in wrong.items())
    yield Finding(
        DETERMINISTIC, RELEASED, not wrong, seen or f"bit-equal for {len(shown)} neighbours",
        {"different": {name: list(files) for name, files in wrong.items()}},
        power="a record that reaches what is released past the noise, or changes a label although "
        "the coins of its response are the same",
    )  # fmt: skip


def _compared(
    facts: PublicFacts, seed: int
) -> list[tuple[StandIns, Mapping[str, StandIns], int]]:
    """Returns data sets, those that each is compared with, and how many neighbours apart these are:
    the usual ones, and two in which one record counts, with two labels.
    """
    records, others = neighbours(facts, seed)
    found: list[tuple[StandIns, Mapping[str, StandIns], int]] = [(records, others, 1)]
    if facts.n_classes > 1:
        one, other, *_ = data_sets(facts, seed)
        found.append((one, {RELABELLED: other}, apart(facts)))
    return found


def _farthest(one: World, other: World, multiplier: float) -> float:
    """Returns the largest distance between the sums of two worlds, in bounds of one answer."""
    found = [
        float((total - other.before[key]).norm()) * multiplier / one.stds[key]
        for key, total in one.before.items()
    ]
    return max(found, default=0.0)


def _game(
    generator: PrivateGenerator, facts: PublicFacts, claim: Claim, seed: int, hardware: Hardware,
    show: bool,
) -> Finding:  # fmt: skip
    make = partial(allowed, generator, _shortened(generator.settings, "briefly_taught"))
    claimed, delta = claim.claimed_epsilon, generator.budget.delta
    n = n_rounds(claimed, delta, facts.n_classes, apart(facts)) * facts.n_classes
    with progress_bar("relabelled records", n, show=show) as advance:
        found = relabelling(
            make, facts, claimed, delta, seed=seed, hardware=hardware, advance=advance
        )
    return Finding(
        TWO_WORLDS, GAME, found.passed, found.sentence,
        {"agreement": found.agreement, "allowed": found.allowed, "certified": found.certified,
         "claimed": found.claimed, "n_runs": found.n_runs},
        power=f"epsilon of at least {found.detectable:.2f}, if all students agreed; a claim that "
        f"holds is accused once in {1 / ALPHA:g} audits at most",
    )  # fmt: skip


def _shortened(settings: Any, how: str) -> Any:  # noqa: ANN401
    """Returns the settings with shorter ones of the published algorithm, by its function of this
    name, if it has one.
    """
    short = getattr(settings.paper, how, None)
    return settings if short is None else replace(settings, paper=short())
