"""Votes on drawn images by teachers of disjoint shards, and the student that learns from them.

In every round a student asks about drawn images that it is least sure of. It learns from the class
of the most votes after the noise; or, where teachers answer points, from its own probabilities plus
the noised mean of the teachers' deviations from them, the nearest probabilities to that. Images and
student are made of released values; records are read by the ensemble alone (theorem A2-V), and all
the rest is post-processing (theorem A3).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from dpgen.data.private import PrivateDataset
from dpgen.images.facts import PublicFacts
from dpgen.networks.fixed.gabor import GaborFeatures
from dpgen.networks.fixed.scattering import ScatteringFeatures
from dpgen.networks.proposer import Proposer
from dpgen.networks.student import ClassifierConfig, Student
from dpgen.privacy.mechanisms import teachers
from dpgen.privacy.mechanisms.ensemble import Ball, NoisyEnsemble
from dpgen.privacy.mechanisms.noisy_ensemble import Ensemble
from dpgen.privacy.mechanisms.teachers import Fit, Teacher
from dpgen.privacy.plan import Plan
from dpgen.progress import progress_bar
from dpgen.runs.context import Workplace
from dpgen.stages.classifier_settings import features_for
from dpgen.stages.ensemble import Answered
from dpgen.stages.votes_settings import LABEL, VoteSettings
from dpgen.training.data_free_settings import StudentSettings
from dpgen.training.simplex import nearest_probabilities
from dpgen.training.students import untrained
from dpgen.training.voted import Learn

SMALLEST = 1e-9  # added to the penalty of a teacher whose features are all equal


@dataclass(frozen=True)
class RidgeTeacher:
    """Trains the teacher of a shard: ridge regression of its classes on public features, in closed
    form, about the shard's own mean.

    Args:
        features: public features of an image.
        n_classes: number of classes.
        ridge: strength of the penalty, relative to the mean square of the features.
    """

    features: GaborFeatures | ScatteringFeatures
    n_classes: int
    ridge: float

    def __call__(self, pixels: Tensor, labels: Tensor, valid: Tensor, seed: int) -> Teacher:
        rows = self.features(pixels[valid]).double()
        centre, rows = rows.mean(0), rows - rows.mean(0)
        targets = functional.one_hot(labels[valid], self.n_classes).double()
        shares = targets.mean(0)
        products = rows @ rows.T
        penalty = self.ridge * products.diagonal().mean() + SMALLEST
        weights = rows.T @ torch.linalg.solve(
            products + penalty * torch.eye(len(rows), dtype=rows.dtype), targets - shares
        )

        def teacher(queries: Tensor) -> Tensor:
            scores: Tensor = (self.features(queries).double() - centre) @ weights + shares
            return scores

        return teacher


@dataclass(frozen=True)
class LikelyTeacher:
    """Trains a teacher that answers with the probabilities that are nearest to another one's
    scores.

    Args:
        scored: trains the other one.
    """

    scored: RidgeTeacher

    def __call__(self, pixels: Tensor, labels: Tensor, valid: Tensor, seed: int) -> Teacher:
        scores = self.scored(pixels, labels, valid, seed)
        return lambda queries: nearest_probabilities(scores(queries))


def teacher_of(settings: VoteSettings, plan: Plan, facts: PublicFacts) -> Fit:
    """Returns the function that trains the teacher of a shard, as the ensemble asks it."""
    scored = RidgeTeacher(features_for(facts.shape), facts.n_classes, settings.ridge)
    points = isinstance(plan.required(LABEL, NoisyEnsemble).answer, Ball)
    return LikelyTeacher(scored) if points else scored


def rehearsed(settings: VoteSettings, plan: Plan, facts: PublicFacts) -> Plan:
    """Returns the plan when a teacher of made-up records has been trained and asked, before
    anything is charged. Raises whatever it raises.
    """
    mechanism = plan.required(LABEL, NoisyEnsemble)
    fit = teacher_of(settings, plan, facts)
    teachers.rehearse(mechanism, fit, facts.shape, facts.n_classes, 0)
    return plan


def run(
    settings: VoteSettings,
    student: StudentSettings,
    proposer: Proposer,
    data: PrivateDataset,
    plan: Plan,
    work: Workplace,
    learn: Learn,
) -> Student:
    """Asks all rounds and returns the student of the last one, on the CPU. A resume asks what was
    answered before anew, and gets the saved answers.

    Args:
        settings: how queries are chosen.
        student: how the student learns.
        proposer: draws the images; released, and not changed.
        data: the private records.
        plan: what was charged, the ensemble among it.
        work: where it computes and saves, and the seed of all public randomness.
        learn: trains the student of a round, from released values alone.
    """
    facts, mechanism = data.facts, plan.required(LABEL, NoisyEnsemble)
    fit = teacher_of(settings, plan, facts)

    def opened() -> Ensemble:
        return data.ensemble(
            mechanism, fit, label=LABEL, checkpoints=work.checkpoints, seed=work.seed
        )

    answered = Answered(data, mechanism, LABEL, work, opened)
    config = ClassifierConfig(facts.shape, facts.n_classes, student.width)
    voted: list[tuple[Tensor, Tensor]] = []
    found = _taught(untrained(config, work.seed), proposer, None, voted, student, 0, work, learn)
    assert settings.n_rounds is not None
    n_rounds = min(settings.n_rounds, mechanism.n_queries)
    each, more = divmod(mechanism.n_queries, n_rounds)
    with progress_bar("votes (private)", n_rounds, show=work.show) as advance:
        for k in range(n_rounds):
            size = each + (k < more)
            asked = _chosen(settings, found, proposer, size, k, work)
            voted.append((asked["images"], _learned(mechanism, answered, asked)))
            found = _taught(found, proposer, found, voted, student, k + 1, work, learn)
            advance()
    answered.finish()
    return found.eval().requires_grad_(False)


def _learned(
    mechanism: NoisyEnsemble, answered: Answered, asked: Mapping[str, Tensor]
) -> Tensor:
    """Returns what the teachers say of the images, without their noise as far as it is known: a
    class, (N,), or probabilities, (N, K).
    """
    if isinstance(mechanism.answer, Ball):
        total = answered.ask(asked["images"], centre=asked["probabilities"])
        return nearest_probabilities(asked["probabilities"] + total / mechanism.n_shards).float()
    votes = answered.ask(asked["images"], candidates=asked["candidates"])
    return votes.masked_fill(~asked["candidates"], -torch.inf).argmax(1)


def _chosen(
    settings: VoteSettings, student: Student, proposer: Proposer, size: int, k: int, work: Workplace
) -> dict[str, Tensor]:
    """Returns the images of round k, those of which the student is least sure, by the gap between
    its two likeliest classes; the classes that may be voted for; and the student's probabilities,
    float64. They are saved, so that a resume asks about the same ones.
    """

    def drawn() -> Mapping[str, Tensor]:
        generator = work.generator(510 + k)
        labels = torch.arange(settings.n_drawn * size) % student.n_classes
        images = proposer.draw(labels, generator)
        odds = student.probabilities(images)
        best = odds.topk(min(settings.n_candidates, student.n_classes), 1)
        rows = (best.values[:, 0] - best.values[:, 1]).argsort(stable=True)[:size]
        candidates = torch.zeros(odds.shape, dtype=torch.bool).scatter_(1, best.indices, True)
        if k == 0:
            candidates[:] = True
        return {
            "images": images[rows],
            "candidates": candidates[rows],
            "probabilities": odds[rows].double(),
        }

    return work.checkpoints.once(f"queries {k + 1}", drawn)


def _taught(
    student: Student,
    proposer: Proposer,
    judge: Student | None,
    voted: list[tuple[Tensor, Tensor]],
    settings: StudentSettings,
    k: int,
    work: Workplace,
    learn: Learn,
) -> Student:
    """Returns the student of round k, which begins as an earlier one."""
    student = copy.deepcopy(student).train().requires_grad_(True)

    def fitted() -> Mapping[str, Tensor]:
        device = work.accelerator.device
        own = None if judge is None else copy.deepcopy(judge).to(device).eval()
        images = torch.cat([images for images, _ in voted]) if voted else None
        labels = torch.cat([labels for _, labels in voted]) if voted else None
        learn(
            student.to(device), proposer, own, images, labels, settings,
            generator=work.generator(520 + k), show=work.show,
        )  # fmt: skip
        return student.cpu().state_dict()

    student.load_state_dict(work.checkpoints.once(f"student {k}", fitted))
    return student.cpu().eval().requires_grad_(False)
