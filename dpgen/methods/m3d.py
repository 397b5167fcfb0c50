"""M3D, mode ``release``: a condensed set, a few images of each class, fitted to class-wise mean
embeddings that were released in two rounds.

Source: Zhang, Li, Wang, Zeng, Ge: "M3D: Dataset Condensation by Minimizing Maximum Mean
Discrepancy", AAAI 2024, arXiv 2312.15927. The published algorithm protects nothing: at each step it
compares the condensed images with real ones, under a network drawn anew, starts from real images,
and takes the bandwidth of its kernels from distances between real images. Each of the three is a
release of its own. What is changed:

    * feature maps are fixed before each release, and stacked to one vector of norm one (theorem
      B2): random Fourier features of the pixels and, if asked for, random encoders from a public
      seed; in the second round the hidden layers of a classifier, which learned from the images
      that were fitted to the first (theorem F3);
    * bandwidths are public numbers or come from fitted images, and the kernels are those of random
      Fourier features, so that a mean embedding is a vector of known length; of several bandwidths,
      those weigh little whose released embeddings are mostly noise;
    * the images begin as noise, and are fitted to what was released: post-processing (F4). What
      was released does not determine them, so they are kept smooth, and where warps are declared
      harmless, every other step of the fit sees them warped.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from dpgen.configurations.m3d import M3DSettings
from dpgen.data.private import PrivateDataset
from dpgen.generator.budget import asked_budget
from dpgen.generator.interface import PrivateGenerator
from dpgen.images.facts import PublicFacts
from dpgen.networks.condensed import Condensed, CondensedConfig
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.plan import Plan
from dpgen.runs.context import Hardware, Rehearsal, Workplace
from dpgen.runs.released import refuse_unloadable
from dpgen.stages import stacked
from dpgen.stages.stacked_rehearsal import rehearse_condensation
from dpgen.training.condensation import Target, condense


class M3D(PrivateGenerator):
    """A condensed set under (epsilon, delta)-DP: a few images of each class, drawn in turn."""

    id = "m3d"
    Settings = M3DSettings
    kinds = {"model": "condensed"}  # noqa: RUF012

    def __init__(
        self,
        *,
        budget: Budget | None = None,
        settings: M3DSettings | None = None,
        epsilon: float | None = None,
        delta: float | None = None,
    ) -> None:
        self.budget = asked_budget(budget, epsilon, delta)
        self.settings = settings or M3DSettings()

    def resolve(self, facts: PublicFacts) -> M3DSettings:
        settings: M3DSettings = self.settings.resolved(facts)
        with torch.device("meta"):
            planned = self._untrained(settings, facts)
        refuse_unloadable(planned)
        settings.embedding.refuse_infinite(facts.shape)
        return settings

    @staticmethod
    def _untrained(settings: M3DSettings, facts: PublicFacts) -> Condensed:
        s = settings.condensed.resolved(facts)
        return Condensed(
            CondensedConfig(
                facts.shape, facts.n_classes, s.images_per_class, s.factor, s.warps, s.mirrors
            )
        )

    def _promise(self, facts: PublicFacts) -> Plan:
        return self.settings.plan(facts, self.budget)

    def rehearse(self, facts: PublicFacts, hardware: Hardware) -> Rehearsal:
        s, network = self.settings, self._untrained(self.settings, facts)
        c = s.condensed.resolved(facts)
        return rehearse_condensation(
            self.plan(facts), network, s.embedding, c.n_steps, c.changes, facts, hardware
        )

    def _learn(
        self, data: PrivateDataset, promise: Plan, work: Workplace
    ) -> Mapping[str, nn.Module]:
        s, network = self.settings.condensed, self._untrained(self.settings, data.facts)

        def fitted(k: int, targets: list[Target]) -> Condensed:
            condense(
                network,
                targets,
                name=f"condensed set {k + 1}",
                n_steps=s.n_steps,
                learning_rate=s.learning_rate,
                smooth=s.smooth,
                changes=s.changes,
                generator=work.generator(100 + k),
                device=work.accelerator.device,
                checkpoints=work.checkpoints,
                show=work.show,
            )
            return network

        stacked.run(self.settings.embedding, data, promise, work, fitted)
        return {"model": network}

    def default_sampler(self, network: str = "model") -> None:
        return None
