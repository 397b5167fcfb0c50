"""A toy method: class means are released once, and images are Gaussian around them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from dpgen.data.private import PrivateDataset
from dpgen.generator.interface import PrivateGenerator
from dpgen.generator.sampler_settings import SamplerSettings
from dpgen.images.facts import PublicFacts
from dpgen.networks.denoiser import Denoiser
from dpgen.networks.denoiser_config import DenoiserConfig, preset_for
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.privacy.plan import Plan, Stage, split_budget
from dpgen.runs.context import Hardware, Rehearsal, Workplace
from dpgen.stages.counts import shrunk_counts
from dpgen.stages.moments import MEANS, ClassMeans
from dpgen.stages.release import released
from samplers import Sampler

BANDS = 3


@dataclass(frozen=True)
class ToySettings:
    """Settings of the toy: the preset of its network, which stays as it is initialised, and how it
    is drawn from.
    """

    mode: str = "means"
    preset: str | None = None
    sampler: SamplerSettings = field(default_factory=SamplerSettings)

    def resolved(self, facts: PublicFacts) -> ToySettings:
        return replace(self, preset=preset_for(facts.shape, self.preset))

    def plan(self, facts: PublicFacts, budget: Budget) -> Plan:
        statistic = ClassMeans(facts.shape, facts.n_classes, 0.0, 6.0, 1.0)
        (multiplier,), _ = split_budget(budget, facts.relation, shares=[1.0], rate=1.0, n_steps=0)
        return Plan((Stage(MEANS, NoisySum(statistic, multiplier)),), facts.relation)


class Toy(PrivateGenerator):
    """A class-conditional Gaussian under (epsilon, delta)-DP."""

    id = "toy"
    Settings = ToySettings

    def __init__(self, *, budget: Budget, settings: ToySettings | None = None) -> None:
        self.budget, self.settings = budget, settings or ToySettings()

    def resolve(self, facts: PublicFacts) -> ToySettings:
        return self.settings.resolved(facts)

    def _promise(self, facts: PublicFacts) -> Plan:
        return self.settings.plan(facts, self.budget)

    def rehearse(self, facts: PublicFacts, hardware: Hardware) -> Rehearsal:
        return Rehearsal(1.0, 2**20, 1, "CPU")

    def _learn(
        self, data: PrivateDataset, promise: Plan, work: Workplace
    ) -> Mapping[str, nn.Module]:
        facts, mechanism = data.facts, promise.mechanism(MEANS, NoisySum)
        assert mechanism is not None
        sums = released(data, MEANS, mechanism, work.checkpoints, work.show)["sums"]
        counts = shrunk_counts(sums[:, -1], mechanism.noise_std, facts.n_records)
        preset = self.settings.preset
        config = DenoiserConfig.preset(preset, facts.shape, facts.n_classes, prior_bands=BANDS)
        network = Denoiser(config)
        assert network.prior is not None
        means = sums[:, :-1] / counts[:, None]
        m = network.prior.values.shape[1]
        spread = 0.1 * torch.eye(m, dtype=torch.float64).repeat(facts.n_classes, 1, 1)
        network.prior.set(means.clamp(-1, 1), spread, 0.1 / math.sqrt(m))
        return {"model": network}

    def default_sampler(self, network: str = "model") -> Sampler:
        own = {"name": "toy-euler", "n_steps": 3, "sigma_min": 0.02, "sigma_max": 3.0}
        sampler: Sampler = self.settings.sampler.from_noise(**own).build()
        return sampler
