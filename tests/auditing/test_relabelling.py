"""The relabelling game: its bounds by oracles, and published flows, which are accused for ever."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binom

from dpgen import (
    DFKD,
    DGD,
    DPDFD,
    DPSD,
    Budget,
    DFKDSettings,
    DGDSettings,
    DPDFDSettings,
    DPSDSettings,
    PrivateDataset,
)
from dpgen.auditing.games.bounds import proportion_low
from dpgen.auditing.relabelling import (
    allowed_agreement,
    certified_epsilon,
    data_sets,
    mean_low,
    n_rounds,
    relabelling,
)
from dpgen.auditing.stand_ins import StandIns, neighbours
from dpgen.auditing.unverified import ANSWERS, GAME, RELEASED, audit_claim
from dpgen.images.images import PublicFacts
from dpgen.published.data_free_settings import PaperSettings
from dpgen.runs.context import Hardware
from tests.methods.test_dfkd import few_features, tiny  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")
FACTS = PublicFacts((1, 8, 8), tuple("abcdefgh"), 30, "replace_one")
BUDGET = Budget(1.0, 1e-3)
CPU = Hardware("cpu")
MAKE: dict[str, tuple[type[Any], type[Any], dict[str, Any]]] = {
    "dpdfd": (DPDFD, DPDFDSettings, {}),
    "dpsd label": (DPSD, DPSDSettings, {}),
    "dpsd label by the teacher": (DPSD, DPSDSettings, {"candidates": "teacher"}),
    "dpsd data": (DPSD, DPSDSettings, {"flow": "data"}),
    "dfkd": (DFKD, DFKDSettings, {"generator_steps": 2}),
    "dgd": (DGD, DGDSettings, {"generator_steps": 2, "n_shards": 3}),
}


def published(name: str, n_steps: int = 4, batch: int = 512) -> Any:  # noqa: ANN401
    kind, settings, own = MAKE[name]
    paper = PaperSettings(
        teacher_steps=15, n_steps=n_steps, batch=batch, width=8, learning_rate=2e-2, **own
    )
    return kind(budget=BUDGET, settings=settings(mode="paper", paper=paper))


def one_neighbour(monkeypatch: pytest.MonkeyPatch) -> StandIns:
    """The records of an audit; of their neighbours it looks at one, the plainest."""
    one, others = neighbours(FACTS, 0)
    name = "checks, alone in its class"
    monkeypatch.setattr(
        "dpgen.auditing.unverified.neighbours", lambda *_: (one, {name: others[name]})
    )
    return one


@pytest.mark.parametrize("n_apart", [1, 2])
def test_certified_is_the_epsilon_that_allows_just_this_agreement(n_apart: int) -> None:
    for epsilon, delta, c in itertools.product((0.1, 1.0, 4.0), (0.0, 1e-5, 1e-3), (2, 3, 10)):
        most = allowed_agreement(epsilon, delta, c, n_apart=n_apart)
        found = certified_epsilon(most, delta, c, n_apart=n_apart)
        assert found == pytest.approx(epsilon, rel=1e-6)
    assert allowed_agreement(1.0, 0.0, 10) == pytest.approx(0.2320, abs=1e-4)
    assert allowed_agreement(10.0, 0.0, 10) == pytest.approx(0.9996, abs=1e-4)
    assert certified_epsilon(1.0, 0.0, 10) == math.inf and certified_epsilon(0.1, 0.0, 10) == 0.0
    assert allowed_agreement(1000.0, 0.0, 10) == 1.0


def test_the_cap_is_met_by_the_response_among_all_classes() -> None:
    """A student that is told the class by randomised response has exactly that agreement."""
    for c, epsilon in ((3, 0.7), (10, 2.0)):
        kept = math.exp(epsilon) / (math.exp(epsilon) + c - 1)
        assert allowed_agreement(epsilon, 0.0, c) == pytest.approx(kept, rel=1e-12)


def test_the_bound_of_a_mean_is_that_of_clopper_and_pearson_at_the_end_and_covers_before() -> None:
    n, alpha = 12, 0.05
    assert mean_low(1.0, n, alpha) == pytest.approx(float(proportion_low(n, n, alpha)), rel=1e-9)
    assert mean_low(0.0, n, alpha) == 0.0
    lows = [mean_low(k / n, n, alpha) for k in range(n + 1)]
    assert all(low <= float(proportion_low(k, n, alpha)) + 1e-9 for k, low in enumerate(lows))
    for p in (0.05, 0.3, 0.7, 0.95):  # how often it lies above the truth, exactly
        missed = sum(float(binom.pmf(k, n, p)) for k, low in enumerate(lows) if low > p)
        assert missed <= alpha


def test_the_data_sets_differ_in_the_label_of_one_record_and_no_other_counts() -> None:
    one, *others = data_sets(FACTS, 0)
    assert int((one.labels < 8).sum()) == 1
    for k, other in enumerate(others, start=1):
        assert bool((one.pixels == other.pixels).all())
        assert (one.labels != other.labels).nonzero().tolist() == [[15]]
        assert int(other.labels[15]) == k


def test_the_number_of_rounds_is_enough_to_refute_the_claim_if_that_is_possible() -> None:
    rounds = n_rounds(1.0, 1e-5, 10, 2)
    low = mean_low(1.0, 10 * rounds, 0.01)
    assert certified_epsilon(low, 1e-5, 10, n_apart=2) >= 1.5
    assert n_rounds(10.0, 1e-5, 10, 2) == 6  # no number would do: sixty runs
    assert n_rounds(1.0, 1e-5, 100, 1) == 1


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[pytest.mark.slow] if name == "dpsd label" else []) for name in MAKE
])  # fmt: skip
def test_an_audit_accuses_every_published_flow(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For ever. `data` is accused by replay: its student needs more images than a test can pay. So
    is dgd: its votes hold, and what is voted on does not.
    """
    one = one_neighbour(monkeypatch)
    game = name in ("dpdfd", "dpsd label", "dfkd")
    # Where every image is a release, fewer do.
    generator = published(name, batch=64 if name == "dgd" else 512)
    data = PrivateDataset(one, facts=FACTS)
    generator.fit(data, out=tmp_path / "run", seed=1, hardware=CPU, allow_unverified=True)
    found = audit_claim(generator, games=game, hardware=CPU)
    assert not found.passed and found.verdict.startswith("VIOLATION")
    failed = {finding.name for finding in found.findings if not finding.passed}
    by_noise = name in ("dpdfd", "dpsd data")
    assert failed == {ANSWERS if by_noise else RELEASED} | ({GAME} if game else set())
    assert "notice SHA-256" in found.text() and "not verified" in found.statement
    if game:
        (seen,) = (finding for finding in found.findings if finding.name == GAME)
        assert seen.numbers["certified"] > seen.numbers["claimed"] == 1.0
        worst = generator.notice["worst_case"]["epsilon"]
        assert worst == "infinity" or worst > seen.numbers["certified"]


@pytest.mark.slow
def test_the_sealed_mode_is_not_accused_by_the_game_that_accuses_the_published_one(
    tmp_path: Path, few_features: None  # noqa: F811
) -> None:
    def sealed() -> DFKD:
        return DFKD(budget=BUDGET, settings=tiny("plain").settings)

    found = relabelling(sealed, FACTS, 1.0, 1e-3, hardware=CPU, rounds=1)
    assert found.passed and found.n_runs == 8 and found.detectable > 2
    assert found.agreement < found.allowed + 0.35  # half a share more than chance, by far


def test_the_answers_of_a_claim_that_holds_are_not_accused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one image a step the paper's price is the true one, and replay finds nothing."""
    one = one_neighbour(monkeypatch)
    generator = published("dpdfd", n_steps=2, batch=1)
    data = PrivateDataset(one, facts=FACTS)
    generator.fit(data, out=tmp_path / "run", seed=1, hardware=CPU, allow_unverified=True)
    assert generator.notice["worst_case"]["epsilon"] == pytest.approx(1.0, rel=2e-3)
    assert audit_claim(generator, games=False, hardware=CPU).passed


