"""A released network need not be a denoiser: a method whose model is class means plus noise goes
through plan, fit, sample, verify and load by one row among the methods and one among the kinds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import dpgen
from dpgen.data.private import PrivateDataset
from dpgen.generator.interface import PrivateGenerator
from dpgen.images.facts import PublicFacts
from dpgen.methods import METHODS, Method
from dpgen.methods.planned import planned_check
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.privacy.plan import Plan, Stage, split_budget
from dpgen.privacy.verification.verify import verify
from dpgen.runs.context import Hardware, Rehearsal, Workplace
from dpgen.runs.kinds import KINDS, Kind, kind_of
from dpgen.runs.released import write_files
from dpgen.stages.moments import MEANS, ClassMeans
from dpgen.stages.release import released
from dpgen.stages.warm_start import class_means
from dpgen.synthetic.synthesise import synthesise
from samplers import make_sampler

pytestmark = pytest.mark.usefixtures("one_thread", "home", "remembering_accountant")


@dataclass(frozen=True)
class MeansConfig:
    """Numbers of a `MeansModel`: shape of the images, classes, and how far pixels lie from them."""

    shape: tuple[int, int, int]
    n_classes: int
    spread: float = 0.1


class MeansModel(nn.Module):
    """An image of a class is the mean of the class plus noise."""

    means: Tensor

    def __init__(self, config: MeansConfig) -> None:
        super().__init__()
        self.config, self.n_classes = config, config.n_classes
        self.register_buffer("means", torch.zeros(config.n_classes, *config.shape))

    def draw(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(len(labels), *self.config.shape, generator=generator)
        return (self.means[labels] + self.config.spread * noise).clamp(-1, 1)


@dataclass(frozen=True)
class ToySettings:
    """Settings of `Toy`."""

    mode: str = "means"
    spread: float = 0.1

    def plan(self, facts: PublicFacts, budget: Budget) -> Plan:
        statistic = ClassMeans(facts.shape, facts.n_classes, -0.4, radius=6.0, count_weight=1.0)
        (multiplier,), _ = split_budget(budget, facts.relation, shares=[1.0], rate=1.0, n_steps=0)
        return Plan((Stage(MEANS, NoisySum(statistic, multiplier)),), facts.relation)


class Toy(PrivateGenerator):
    """Class means by one Gaussian release."""

    id = "class-means"
    Settings = ToySettings
    kinds = {"model": "class means"}  # noqa: RUF012

    def __init__(self, *, budget: Budget, settings: ToySettings | None = None) -> None:
        self.budget, self.settings = budget, settings or ToySettings()

    def resolve(self, facts: PublicFacts) -> ToySettings:
        return self.settings  # type: ignore[no-any-return]

    def _promise(self, facts: PublicFacts) -> Plan:
        return self.settings.plan(facts, self.budget)  # type: ignore[no-any-return]

    def rehearse(self, facts: PublicFacts, hardware: Hardware) -> Rehearsal:
        return Rehearsal(0.0, 0, 0, "CPU")

    def _learn(
        self, data: PrivateDataset, promise: Plan, work: Workplace
    ) -> dict[str, nn.Module]:
        mechanism, facts = promise.mechanism(MEANS, NoisySum), data.facts
        assert mechanism is not None and isinstance(mechanism.statistic, ClassMeans)
        sums = released(data, MEANS, mechanism, work.checkpoints, work.show)["sums"]
        means, _ = class_means(sums, mechanism.statistic, mechanism.noise_std, facts.n_records)
        model = MeansModel(MeansConfig(facts.shape, facts.n_classes, self.settings.spread))
        model.means.copy_(means.reshape(-1, *facts.shape))
        return {"model": model}

    def default_sampler(self, network: str = "model") -> None:
        return None


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row in each table: all that a method with a network of its own needs."""
    home = Method(f"{__name__}:Toy", f"{__name__}:ToySettings", "class means", {"means": "yes"})
    monkeypatch.setitem(METHODS, "class-means", home)
    monkeypatch.setitem(KINDS, "class means", Kind(MeansModel, MeansConfig))


@pytest.fixture
def run(
    rows: None,
    tmp_path: Path,
    records: Any,  # noqa: ANN401
    dataset: Callable[..., PrivateDataset],
) -> Path:
    generator = Toy(budget=Budget(5.0, 1e-3))
    generator.fit(dataset(records), out=tmp_path / "run", seed=1, hardware=Hardware("cpu"))
    return tmp_path / "run"


def test_a_method_whose_model_is_no_denoiser_is_trained_verified_loaded_and_sampled(
    run: Path, tmp_path: Path
) -> None:
    generator = dpgen.load(run)
    assert isinstance(generator.networks["model"], MeansModel)
    assert generator.privacy["guarantee"]["epsilon"] <= 5.0
    assert not any(check.failed for check in [*verify(run), planned_check(run)])
    images = generator.sample(7, labels="uniform", generator=torch.Generator().manual_seed(3))
    assert images.pixels.shape == (7, 1, 8, 8) and images.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    more = generator.sample(300, labels="uniform", generator=torch.Generator().manual_seed(3))
    assert torch.equal(more.pixels[:7], images.pixels)
    means = generator.networks["model"].means[more.labels]
    inside = means.abs() < 0.5
    assert abs(float((more.pixels - means)[inside].std()) - 0.1) < 0.01
    stated = synthesise(run, 4, tmp_path / "set", seed=1)
    assert stated["synthetic_dataset"]["sampler"] == "none"
    assert not any(check.failed for check in verify(tmp_path / "set"))


def test_a_network_that_draws_its_images_itself_takes_no_sampler_and_no_guidance(
    run: Path,
) -> None:
    generator = dpgen.load(run)
    heun = make_sampler("heun", n_steps=2, sigma_min=0.1, sigma_max=3.0)
    for given in ({"sampler": heun}, {"guidance": 0.5}):
        with pytest.raises(ValueError, match="no sampler, guidance or precision is for it"):
            generator.sample(1, **given)
    with pytest.raises(ValueError, match="network must be model, got 'teacher'"):
        generator.sample(1, network="teacher")


def test_a_network_of_another_kind_than_the_method_releases_is_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Toy, "kinds", {"model": "denoiser"})
    with pytest.raises(ValueError, match="must be a denoiser of .*, got a class means of"):
        dpgen.load(run)


def test_a_network_of_no_kind_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="denoiser, .*, condensed, got MeansModel"):
        write_files(tmp_path, {}, {}, {"model": MeansModel(MeansConfig((1, 8, 8), 3))})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(TypeError, match="got Linear"):
        kind_of(nn.Linear(1, 1))


def test_a_file_of_a_kind_without_a_row_is_no_file_of_a_run(rows: None, tmp_path: Path) -> None:
    from dpgen.runs.released import load_network

    path = tmp_path / "model.safetensors"
    save_file(MeansModel(MeansConfig((1, 8, 8), 3)).state_dict(), path, metadata={"else": "{}"})
    with pytest.raises(ValueError, match="denoiser or .* or condensed or class means"):
        load_network(path)
