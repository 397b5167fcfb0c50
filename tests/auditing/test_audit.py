"""Audits of tiny runs: of honest ones, of broken ones, and what they write."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dpgen.auditing import audit as auditor
from dpgen.auditing import replay
from dpgen.auditing.audit import audit
from dpgen.auditing.findings import Audit
from dpgen.data.private import PrivateDataset
from dpgen.methods.loading import load
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.mechanisms import clipping, shares
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.privacy.statements.certificate import sha256_file
from dpgen.runs.context import Hardware
from tests.commands import dpgen

pytestmark = pytest.mark.usefixtures(
    "one_thread", "home", "remembering_accountant", "short_audits", "small_network"
)

STAGES = {"class means", "class spread", "teacher"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the run that every test of this module audits a copy of."""
    return tmp_path_factory.mktemp("trained")


@pytest.fixture
def run(
    records: Any,  # noqa: ANN401
    dataset: Callable[..., PrivateDataset],
    untrained: Callable[..., Any],
    trained: Path,
    tmp_path: Path,
) -> Path:
    """A finished run of dpdm, trained once."""
    if not (trained / "run").exists():
        untrained("dpdm").fit(dataset(records), out=trained / "run", show=False)
    return Path(shutil.copytree(trained / "run", tmp_path / "run"))


@pytest.fixture
def one_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    """One neighbour in the place of seven: what is planted here shows without, or in this one."""
    every = replay.neighbours

    def one(facts: Any, seed: int) -> Any:  # noqa: ANN401
        first, others = every(facts, seed)
        return first, {"copy of another record": others["copy of another record"]}

    monkeypatch.setattr(replay, "neighbours", one)


def test_an_honest_run_passes_and_every_stage_is_looked_at_in_every_way(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditor, "N_RUNS", 60)
    monkeypatch.setattr(auditor, "N_CANARIES", 40)
    done = dpgen("audit", run, "--out", tmp_path / "audit", "--label-canaries", 20, "-q")
    assert done.exit_code == 0, done.stdout
    assert "No violation found" in done.stdout
    told = json.loads((tmp_path / "audit" / "audit.json").read_text(), parse_constant=pytest.fail)
    assert told["schema"] == "dpgen-audit/1" and told["passed"] is True
    assert told["certificate"] == json.loads((run / "privacy.json").read_text())["sha256"]
    by_kind: dict[str, set[str]] = {}
    for finding in told["findings"]:
        by_kind.setdefault(finding["kind"], set()).add(finding["name"].split(":")[0])
    assert by_kind["deterministic"] == {
        *STAGES, "certificate", "everything released, under one transcript", "records are read",
        "noise of a whole run", "keys",
    }  # fmt: skip
    names = [f["name"] for f in told["findings"] if f["kind"] == "deterministic"]
    for stage in STAGES:
        for looked in (
            "sensitivity", "a record's share in every branch", "randomness",
            "rows and neighbours in a micro-batch", "noise that comes back, and its tails",
            "neighbours before the noise",
        ):  # fmt: skip
            assert names.count(f"{stage}: {looked}") == 1
    assert names.count("teacher: coins that know of each other") == 1
    assert by_kind["two worlds"] == STAGES
    assert by_kind["one run"] == {*STAGES, "the released model"}
    for finding in told["findings"]:
        if finding["kind"] != "deterministic":
            assert re.search("would have detected|too small to detect", finding["seen"])
    assert all(finding["power"] for finding in told["findings"])
    assert told["date"].endswith(" UTC") and told["version"] == version("dpgen")
    assert told["files"]["privacy.json"] == sha256_file(run / "privacy.json")
    assert told["files"]["model.safetensors"] == sha256_file(run / "model.safetensors")
    assert "false alarms" in " ".join(told["meaning"]) and told["meaning"][0] in done.stdout
    page = (tmp_path / "audit" / "audit.html").read_text()
    assert page.count("<svg") == 2 * len(STAGES)
    for told_there in (told["date"], told["version"], told["certificate"], *told["meaning"]):
        assert told_there in page
    assert "://" not in page and "<script" not in page


def _less(source: KeyedNoise, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
    return add(source, total, 0.9 * std, release=release, name=name)


def _none(source: KeyedNoise, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
    return total


add = KeyedNoise.add


@pytest.mark.slow  # games/test_two_world.py and test_randomness.py have noise too small
@pytest.mark.usefixtures("one_neighbour")
def test_noise_that_is_a_tenth_too_small_is_a_violation(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KeyedNoise, "add", _less)
    found = audit(load(run), games=False)
    failed = {f.name for f in found.findings if not f.passed}
    expected = {f"{stage}: randomness" for stage in STAGES}
    # Tails that are too light go with it.
    assert expected <= failed
    assert failed - expected <= {f"{s}: noise that comes back, and its tails" for s in STAGES}
    assert found.verdict.startswith("VIOLATION") and "teacher: randomness" in found.verdict


def _failed(run: Path) -> set[str]:
    return {f.name for f in audit(load(run), games=False, hardware=Hardware("cpu")).findings
            if not f.passed}  # fmt: skip


@pytest.mark.slow  # test_long_run.py has noise that comes back
@pytest.mark.usefixtures("one_neighbour")
def test_noise_that_comes_back_after_999_steps_is_a_violation(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(source: Any, total: Tensor, std: float, *, release: int, name: str) -> Tensor:  # noqa: ANN401
        own, nothing = KeyedNoise(source._key, source._plan), torch.zeros(total.shape).double()
        return total + std * add(own, nothing, 1.0, release=release % 999, name=name)

    monkeypatch.setattr(KeyedNoise, "add", again)
    assert _failed(run) == {"teacher: noise that comes back, and its tails"}


@pytest.mark.slow  # test_coins.py has coins of another step
@pytest.mark.usefixtures("one_neighbour")
def test_coins_that_are_those_of_another_step_are_a_violation(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coins = KeyedNoise.coins

    def moved(source: Any, n: int, rate: float, *, release: int) -> np.ndarray:  # noqa: ANN401
        own = KeyedNoise(source._key, source._plan)
        chosen = coins(own, n, rate, release=release - release % 3)
        return np.sort((chosen + 29 * (release % 3)) % max(n, 1))

    monkeypatch.setattr(KeyedNoise, "coins", moved)
    assert _failed(run) == {"teacher: coins that know of each other"}


@pytest.mark.slow  # test_keys.py has keys that are guessed
@pytest.mark.usefixtures("one_neighbour")
def test_a_key_that_can_be_guessed_is_a_violation(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = StageKeys.create

    def created(keys: StageKeys, plan: str) -> None:
        create(keys, plan)
        (keys._folder / f"{plan}.key").write_bytes(hashlib.sha256(plan.encode()).digest())

    monkeypatch.setattr(StageKeys, "create", created)
    assert _failed(run) == {"keys"}


@pytest.mark.usefixtures("one_neighbour")
def test_a_record_that_counts_more_where_its_label_is_dropped_is_a_violation(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clipped = shares.add_clipped

    def longer(total: Any, loss: Any, held: Any, batch: Any, valid: Tensor, norm: float) -> None:  # noqa: ANN401
        dropped = batch[2].get("drop", torch.zeros(len(valid)).bool())
        clipped(total, loss, held, batch, valid & ~dropped, norm)
        clipped(total, loss, held, batch, valid & dropped, 1.1 * norm)

    monkeypatch.setattr(shares, "add_clipped", longer)
    assert "teacher: a record's share in every branch" in _failed(run)


@pytest.mark.usefixtures("one_neighbour")
def test_a_kernel_that_rounds_by_the_row_is_a_violation_on_the_device_that_trains(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    factors = clipping.clip_factors

    def by_the_row(norms: Tensor, bound: float) -> Tensor:
        return factors(norms, bound) * (1 - 1e-6 * (torch.arange(len(norms)) % 3).double())

    monkeypatch.setattr(clipping, "clip_factors", by_the_row)
    found = audit(load(run), games=False, hardware=Hardware("cpu", micro_batch=5))
    (wrong,) = (f for f in found.findings if not f.passed)
    assert wrong.name == "teacher: rows and neighbours in a micro-batch"
    seen = wrong.numbers
    assert seen["device"] == "cpu" and seen["moved"] == pytest.approx(2e-6, rel=1e-4)
    assert seen["of_a_sum"] > seen["allowed"] == pytest.approx(1e-5, rel=1e-4)


@pytest.mark.usefixtures("one_neighbour")
def test_a_clip_that_does_nothing_is_a_violation_with_status_one(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "dpgen.privacy.mechanisms.clipping.clip_factors",
        lambda norms, bound: torch.ones_like(norms),
    )
    done = dpgen("audit", run, "--quick", "--out", tmp_path / "audit", "-q")
    assert done.exit_code == 1 and "FAILED  teacher: sensitivity" in done.stdout
    assert "violation" in (tmp_path / "audit" / "audit.html").read_text()
    assert json.loads((tmp_path / "audit" / "audit.json").read_text())["passed"] is False


def test_a_model_that_was_trained_without_noise_gives_its_label_canaries_away(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KeyedNoise, "add", _none)
    monkeypatch.setattr(auditor, "of_stage", lambda *given: pytest.fail("not asked for"))
    found = auditor._label_canaries(*_loaded(run), 60, 0, False)
    assert not found.passed and found.seen.startswith("VIOLATION")
    monkeypatch.undo()


def _loaded(run: Path) -> tuple[Any, Any, Any]:
    generator = load(run)
    return generator, generator.plan(generator.facts), generator.facts


def test_what_cannot_be_audited_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for asked, rule in (
        ([tmp_path / "nothing"], "must be the folder of a finished run"),
        ([run, "--label-canaries", 5], "n_label_canaries must be 0 or at least 20, got 5"),
        ([run, "--quick", "--label-canaries", 50], "--quick skips the games"),
    ):
        refused = dpgen("audit", *asked, "-q")
        assert refused.exit_code == 2 and rule in refused.stderr
    monkeypatch.setattr(auditor, "event_to_json", lambda event: [])
    with pytest.raises(ValueError, match="was charged other events than this version plans"):
        audit(load(run))


@pytest.mark.slow
@pytest.mark.usefixtures("one_neighbour")
def test_a_seed_moves_stand_ins_and_no_noise(run: Path) -> None:
    one, other = audit(load(run), games=False), audit(load(run), games=False, seed=1)

    def numbers(found: Audit, name: str) -> dict[str, Any]:
        return dict(next(f.numbers for f in found.findings if f.name == name))

    for name in ("class means: neighbours before the noise", "teacher: randomness"):
        assert numbers(one, name) != numbers(other, name)
    assert np.isfinite(list(numbers(one, "teacher: randomness")["scores"].values())).all()
