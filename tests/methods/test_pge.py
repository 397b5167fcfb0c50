"""PGE: neighbour replay under every loss, resuming, what is refused first, what comes out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import dpgen
from dpgen import PGE, Budget, PGESettings
from dpgen.configurations.pge import sampler_for
from dpgen.data.private import PrivateDataset
from dpgen.generator.sampler_settings import SamplerSettings
from dpgen.methods import METHODS, find
from dpgen.runs.checkpoint import Checkpoints
from dpgen.runs.context import Hardware
from dpgen.settings import from_dict
from dpgen.stages.teacher import TeacherSettings
from dpgen.training.score_matching import LOSSES
from samplers import SAMPLERS, Annealed, Hamiltonian
from tests.methods import test_replay as replay

live = replay.live
BUDGET = Budget(0.3, 1e-3)
HEUN = SamplerSettings(name="heun", n_steps=2)
TINY = TeacherSettings(
    warm_start_share=0.5, n_steps=3, n_draws=2, batch=15, bands=4, clip_norm=0.05
)


def pge(**teacher: Any) -> PGE:  # noqa: ANN401
    settings = PGESettings(teacher=replace(TINY, **teacher), sampler=HEUN)
    return PGE(budget=BUDGET, settings=settings)


@pytest.fixture(scope="module")
def untrained() -> Callable[..., PGE]:
    """Tiny PGE by the name of its loss: what `live` fits."""
    return lambda loss: pge(loss=loss)


@pytest.mark.parametrize(
    "loss",
    # The default, and the one of the layers' kernels; the others are computed as the default is.
    [x if "denoising" in x else pytest.param(x, marks=pytest.mark.slow) for x in LOSSES],
)
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_an_added_record_moves_pge_by_at_most_what_is_declared_and_shows_in_nothing_released(
    loss: str,
    live: Callable[..., replay.World],
    records: Any,  # noqa: ANN401
) -> None:
    without, white = live(loss, records), {"white": (replay.WHITE, 0)}
    moved = replay.moved_by_added(live, loss, records, without, white, replay.STAGES)["white"]
    # Not vacuous: the record is clipped in the teacher, and its first coin is forced.
    assert moved["teacher"][0] >= 0.99, moved


@pytest.mark.parametrize("loss", ["sliced-denoising", "sliced"])
def test_a_stopped_run_goes_on_to_the_weights_of_an_uninterrupted_one_and_pays_once(
    loss: str,
    records: Any,  # noqa: ANN401
    dataset: Callable[..., PrivateDataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dpgen.privacy.lineage.keys.new_key", lambda: b"k" * 32)
    monkeypatch.setattr(Checkpoints, "due", lambda states: True)

    def fit(folder: str) -> PGE:
        hardware = Hardware("cpu", micro_batch=8)
        return pge(loss=loss).fit(
            dataset(records), out=tmp_path / folder, seed=1, hardware=hardware
        )

    with monkeypatch.context() as patch:
        patch.setenv("DPGEN_HOME", str(tmp_path / "elsewhere"))
        whole = fit("whole").networks["model"].state_dict()
    save = Checkpoints.save

    def stop(states: Checkpoints, name: str, tensors: Any, **numbers: Any) -> None:  # noqa: ANN401
        save(states, name, tensors, **numbers)
        if name == "teacher" and numbers["step"] == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            fit("stopped")
    generator = fit("stopped")
    resumed = generator.networks["model"].state_dict()
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)
    lines = [
        json.loads(s) for s in (tmp_path / "stopped" / "ledger.jsonl").read_text().split("\n") if s
    ]
    charged = [line["label"] for line in lines if line["kind"] == "charge"]
    assert charged == ["class means", "class spread", "teacher"]


def test_what_pge_learns_is_a_residual_that_sees_the_released_gaussian(
    records: Any,  # noqa: ANN401
    dataset: Callable[..., PrivateDataset],
    tmp_path: Path,
) -> None:
    generator = pge().fit(dataset(records), out=tmp_path / "run", seed=1)
    model = generator.networks["model"]
    assert model.config.prior_input and model.prior is not None
    assert (generator.settings.teacher.loss, generator.settings.teacher.residual) == (
        "denoising",
        "fed",
    )
    assert generator.privacy["mechanism"]["id"] == "pge/dpsgd"
    loaded = dpgen.load(tmp_path / "run")
    assert isinstance(loaded, PGE) and loaded.settings == generator.settings

    def drawn(generator: PGE, **how: Any) -> torch.Tensor:  # noqa: ANN401
        return generator.sample(5, generator=torch.Generator().manual_seed(3), **how).pixels

    assert torch.equal(drawn(generator), drawn(loaded))
    other = sampler_for(SamplerSettings(name="ddim", n_steps=3), "dpsgd", (1, 8, 8)).build()
    assert not torch.equal(drawn(generator), drawn(generator, sampler=other))


def test_without_residual_the_gaussian_only_pretrains(
    records: Any,  # noqa: ANN401
    dataset: Callable[..., PrivateDataset],
    tmp_path: Path,
) -> None:
    generator = pge(residual="off", pretrain_steps=2).fit(
        dataset(records), out=tmp_path / "run", seed=1
    )
    assert generator.networks["model"].prior is None
    assert generator.networks["model"].config.prior_bands == 0


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (SamplerSettings(name="hamilton"), "sampler must be one of .*, got 'hamilton'"),
        (SamplerSettings(name="heun", eta=0.5), "options of heun are .*, got 'eta'"),
        (SamplerSettings(name="heun", sigma_min=30.0), "0 < sigma_min < sigma_max"),
        (SamplerSettings(name="ddim", n_steps=0), "n_levels must be at least 1"),
    ],
)
def test_a_sampler_that_cannot_be_is_refused_before_anything_is_read_or_paid(
    sampler: SamplerSettings,
    message: str,
    records: Any,  # noqa: ANN401
    dataset: Callable[..., PrivateDataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(rows: Any) -> Any:  # noqa: ANN401
        raise AssertionError("a record was read")

    data = dataset(records)
    monkeypatch.setattr(records, "read", read)
    settings = PGESettings(teacher=TINY, sampler=sampler)
    with pytest.raises(ValueError, match=message):
        PGE(budget=BUDGET, settings=settings).fit(data, out=tmp_path / "run")
    assert not (tmp_path / "run" / "ledger.jsonl").exists()


def test_settings_come_from_plain_dictionaries_and_keep_the_methods_defaults() -> None:
    given = {"teacher": {"n_steps": 5}, "sampler": {"name": "heun", "rho": 3}}
    settings = from_dict(PGESettings, given)
    facts = dpgen.PublicFacts((1, 8, 8), ("a",), 1000, "add_remove", origin="stated")
    resolved = PGE(budget=BUDGET, settings=settings).resolve(facts)
    assert resolved.teacher.n_draws >= 16
    assert (resolved.teacher.loss, resolved.teacher.residual) == ("denoising", "fed")
    assert "rho=3" in repr(resolved.sampler.build())
    with pytest.raises(ValueError, match="mode of pge must be one of dpsgd, .*, got 'sealed'"):
        PGESettings(mode="sealed")
    unknown = PGE(budget=BUDGET, settings=from_dict(PGESettings, {"sampler": {"step": 1}}))
    with pytest.raises(ValueError, match="options of hamiltonian are .*, got 'step'; the nearest"):
        unknown.resolve(facts)


def test_samples_follow_hamiltonian_dynamics_unless_another_sampler_is_named() -> None:
    default = sampler_for(SamplerSettings(), "dpsgd", (1, 8, 8)).build()
    assert isinstance(default, Annealed) and isinstance(default.kernel, Hamiltonian)
    assert default.transport is None and default.n_evaluations == 72
    assert float(default.levels()[0]) == pytest.approx(3.0)
    large = sampler_for(SamplerSettings(), "dpsgd", (3, 256, 128)).build()
    assert float(large.levels()[0]) == pytest.approx(96.0)
    settings = SamplerSettings(name="hamiltonian", n_steps=4, n_leapfrog=2, step_size=0.3)
    named = sampler_for(settings, "dpsgd", (1, 8, 8)).build()
    assert repr(named.kernel) == repr(Hamiltonian(step_size=0.3, n_leapfrog=2))
    for name in SAMPLERS:
        made = sampler_for(SamplerSettings(name=name), "dpsgd", (1, 8, 8)).build()
        assert (repr(made) == repr(default)) == (name == "hamiltonian")


def test_pge_is_in_the_table_of_methods() -> None:
    assert find("pge") is PGE and list(METHODS["pge"].modes)[0] == PGESettings().mode
