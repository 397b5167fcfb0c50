"""Votes of given teachers on images that hold no silo's records."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dpgen.data.teachers import PrivateTeachers
from dpgen.images.facts import PublicFacts
from dpgen.networks.student import ClassifierConfig
from dpgen.privacy.accounting.accountant import round_up
from dpgen.privacy.mechanisms.ensemble import FixedEnsemble
from dpgen.privacy.mechanisms.noisy_ensemble import Ensemble
from dpgen.privacy.plan import Plan
from dpgen.runs.context import Workplace
from dpgen.stages.ensemble import Answered
from dpgen.stages.votes_settings import LABEL
from dpgen.training.students import untrained


@dataclass(frozen=True)
class Voted:
    """What was asked, and the class of the most votes after the noise.

    Args:
        rows: positions of the images among all, (Q,).
        labels: their classes, (Q,).
    """

    rows: Tensor
    labels: Tensor


def run(images: Tensor, data: PrivateTeachers, plan: Plan, work: Workplace) -> Voted:
    """Asks the teachers about images that are drawn at random from all. A resume asks what was
    answered before anew, and gets the saved answers.

    Args:
        images: all of them, (N, C, H, W) in [-1, 1]; released or public.
        data: the private teachers.
        plan: what was charged.
        work: where answers are saved, and the seed of all public randomness.
    """
    facts, mechanism = data.facts, plan.required(LABEL, FixedEnsemble)
    stand_in = untrained(ClassifierConfig(facts.shape, facts.n_classes, 8), 0)

    def opened() -> Ensemble:
        return data.ensemble(
            mechanism, label=LABEL, checkpoints=work.checkpoints, seed=work.seed,
            stand_in=stand_in.eval().requires_grad_(False),
        )  # fmt: skip

    answered = Answered(data, mechanism, LABEL, work, opened)
    rows = torch.randperm(len(images), generator=work.generator(552))[: mechanism.n_queries]
    labels = answered.ask(images[rows]).argmax(1)
    answered.finish()
    return Voted(rows, labels)


def price_of(plan: Plan, facts: PublicFacts, delta: float, n_images: int) -> list[str]:
    """Says in lines what asking the teachers costs.

    Args:
        plan: what is charged.
        facts: public facts of the teachers.
        delta: at which epsilon is stated.
        n_images: number of images among which they are asked.
    """
    asked, shape = plan.required(LABEL, FixedEnsemble), "x".join(map(str, facts.shape))
    return [
        f"{facts.n_records} teachers of {shape} images in {facts.n_classes} classes vote on "
        f"{asked.n_queries} of {n_images} images",
        f"spends epsilon = {round_up(plan.epsilon(delta)):g} at delta = {delta:g} "
        f"({facts.relation.phrase})",
        f"noise of standard deviation {asked.noise_std:.3g} on the votes for each class",
    ]
