r"""Data-free distillation as published, for study: dpdfd, dpsd, dfkd and dgd in one loop.

[R]: of these papers only abstracts could be read; `dpgen.methods` names them. A teacher T learns
from private images without protection. At each step a generator G makes b images x of random
classes, T answers, and a student S learns from the protected answers. p is softmax S(x), t is
softmax T(x):

    gradient  u = g / (|g| + 1e-8) + N(0, sigma^2),  g = p - t, which is the gradient of the loss by
              the logits of S, and the chain rule carries it on           (dpdfd)
    data      p + r + N(0, (sigma R)^2), projected to the simplex, r = t - p clipped to norm R, is
              the label                                                   (dpsd)
    label     the likeliest class by T, changed by randomised response    (dpsd)
    frozen    the same, and G was trained against T before, without noise (dfkd)
    votes     the class of the most votes of teachers of disjoint shards, with noise on each count;
              G was trained against T before, without noise               (dgd, without its
              regularisation of the student)

Otherwise G follows S: it descends the cross-entropy of S to the class that was asked for.

The papers price the noise as if a record moved one answer of a step, or one label. It moves the
teacher, and so all of them: Q = b T answers are mu-GDP with mu = 2 sqrt(b T) / sigma, or cost
Q eps0, between *any* two data sets; where T chooses the classes of a response, and where G has seen
T, no epsilon holds. The noise on votes hides a record, but what is voted on does not. Proof:
theorems P3 and A2.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from dpgen.data.private import PrivateDataset
from dpgen.images.images import Images, PublicFacts
from dpgen.networks.decoder import Decoder, DecoderConfig
from dpgen.networks.proposer import Proposer, ProposerConfig
from dpgen.networks.seeding import seeded
from dpgen.networks.student import ClassifierConfig, Student
from dpgen.privacy.mechanisms.clipping import clip_factors
from dpgen.privacy.mechanisms.noise import KeyedNoise, NoiseSource, new_key
from dpgen.privacy.statements.notice import Claim
from dpgen.progress import progress_bar
from dpgen.published import unprotected
from dpgen.published.data_free_settings import NORMALISED, PaperSettings
from dpgen.runs.context import Workplace
from dpgen.training.randomised_response import law, response_at
from dpgen.training.simplex import nearest_probabilities

ANSWERS, COINS = "answers", "coins of responses"
EMA_DECAY = 0.95


class Converted(NamedTuple):
    """What is released: the generator, as a proposer, and the student."""

    model: Proposer
    student: Student


def train(
    settings: PaperSettings,
    facts: PublicFacts,
    data: PrivateDataset,
    claim: Claim,
    work: Workplace,
) -> Converted:
    """Runs the published algorithm, and returns what it releases; the teacher is not."""
    records, noise = data.unprotected_records(claim)
    images = unprotected.read_all(records)
    teacher = _teacher(settings, facts, images, work)
    strength = claim.settings.get("noise_multiplier", claim.settings.get("epsilon_of_response"))
    flow = Loop(
        settings, facts, teacher, noise, float(strength), generator=work.generator(2),
        seed=work.seed + 1, show=work.show, voters=_voters(settings, facts, images, work),
    )  # fmt: skip
    if settings.kind.frozen:
        flow.freeze()
    with progress_bar("student (published)", settings.n_steps, show=work.show) as advance:
        for step in range(settings.n_steps):
            flow.step(step)
            advance()
    return flow.converted()


def _teacher(
    settings: PaperSettings, facts: PublicFacts, images: Images, work: Workplace
) -> Student:
    network = _classifier(settings, facts, work.seed).to(work.accelerator.device)

    def loss(x: Tensor, y: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
        return functional.cross_entropy(network(x), y, reduction="none")

    schedule = unprotected.Schedule(
        "teacher (unprotected)", settings.teacher_steps, settings.batch, settings.learning_rate,
        EMA_DECAY,
    )  # fmt: skip
    unprotected.fit(network, images, loss, schedule, work)
    return network.eval().requires_grad_(False)


def _voters(
    settings: PaperSettings, facts: PublicFacts, images: Images, work: Workplace
) -> list[Student]:
    """Trains the teachers that vote, each on a shard of its own, by a hash of the image; none in
    other flows.
    """
    n = settings.n_shards or 0
    shards = torch.tensor([zlib.crc32(one.numpy().tobytes()) % max(n, 1) for one in images.pixels])
    parts = (Images(images.pixels[shards == k], images.labels[shards == k]) for k in range(n))
    return [_teacher(settings, facts, part, work) for part in parts if len(part.labels)]


def _classifier(settings: PaperSettings, facts: PublicFacts, seed: int) -> Student:
    with seeded(seed):
        return Student(ClassifierConfig(facts.shape, facts.n_classes, settings.width))


class Loop:
    """Generator, student and their steps, against a teacher that is fixed.

    Args:
        settings: the numbers, with a flow.
        facts: public facts of the records.
        teacher: T, on the device where the loop computes.
        noise: the secret randomness of answers.
        strength: the noise multiplier in units of an answer's bound, or epsilon_0 of a response.
        generator: CPU generator of all public randomness but initial weights.
        seed: of those.
        show: whether to show a progress bar.
        voters: teachers of disjoint shards, where labels are voted on.
    """

    def __init__(
        self, settings: PaperSettings, facts: PublicFacts, teacher: Student, noise: NoiseSource,
        strength: float, *, generator: torch.Generator, seed: int, show: bool,
        voters: Sequence[Student] = (),
    ) -> None:  # fmt: skip
        self._settings, self._teacher, self._noise = settings, teacher, noise
        self._strength, self._draws, self._show = strength, generator, show
        self._device, self._voters = next(teacher.parameters()).device, voters
        with seeded(seed):
            self._generator = Decoder(DecoderConfig(facts.shape, facts.n_classes))
        self.student = _classifier(settings, facts, seed + 1).to(self._device)
        self._generator.to(self._device)
        rate = settings.learning_rate
        self._of_generator = torch.optim.Adam(self._generator.parameters(), lr=rate)
        self._of_student = torch.optim.Adam(self.student.parameters(), lr=rate)

    def _drawn(self) -> tuple[Tensor, Tensor]:
        n, config = self._settings.batch, self._generator.config
        y = torch.randint(config.n_classes, (n,), generator=self._draws).to(self._device)
        z = torch.randn(n, config.n_latents, generator=self._draws).to(self._device)
        return self._generator(z, y), y

    def freeze(self) -> None:
        """Trains the generator against the teacher, with no noise between them."""
        n = self._settings.generator_steps or 0
        with progress_bar("generator (unprotected)", n, show=self._show) as advance:
            for _ in range(n):
                self._follow(self._teacher)
                advance()
        self._generator.requires_grad_(False)

    def _follow(self, judge: Student) -> None:
        """Takes a step of the generator towards images of the class that was asked for."""
        images, y = self._drawn()
        self._of_generator.zero_grad()
        functional.cross_entropy(judge(images), y).backward()
        self._of_generator.step()

    def step(self, step: int) -> None:
        """Takes a step of the student, and one of a generator that is not frozen."""
        images = self._drawn()[0].detach()
        logits = self.student(images)
        with torch.no_grad():
            answers = self._votes(images) if self._voters else self._teacher(images)
        self._of_student.zero_grad()
        self._loss(logits, answers, step).backward()
        self._of_student.step()
        if not self._settings.kind.frozen:
            self._follow(self.student)

    def _loss(self, logits: Tensor, answers: Tensor, step: int) -> Tensor:
        """Computes the student's loss of the protected answers; a function of the records through
        them alone.
        """
        bound, normal = self._settings.kind.bound, self._settings.flow == "gradient"
        if self._voters:
            return functional.cross_entropy(logits, self._counted(answers, step).to(logits.device))
        if bound is None:
            labels = self._responses(logits.detach(), answers, step)
            return functional.cross_entropy(logits, labels)
        deviations = answers.softmax(1) - logits.detach().softmax(1)
        own = normalised(-deviations) if normal else clipped(deviations, bound)
        noised = self._noise.add(own, self._strength * bound, release=step, name=ANSWERS)
        noised = noised.to(logits)
        if normal:
            return (logits * noised).sum() / len(logits)
        targets = nearest_probabilities(logits.detach().softmax(1) + noised)
        return functional.cross_entropy(logits, targets)

    def _votes(self, images: Tensor) -> Tensor:
        """Counts the votes about images, (B, K) float64."""
        n_classes = self.student.n_classes
        named = (functional.one_hot(one(images).argmax(1), n_classes) for one in self._voters)
        return torch.stack(list(named)).sum(0).double().cpu()

    def _counted(self, votes: Tensor, step: int) -> Tensor:
        """Returns the classes of the most votes after the noise; every image is a release."""
        std, first = self._strength * math.sqrt(2.0), step * len(votes)
        noised = (
            self._noise.add(row, std, release=first + k, name=ANSWERS)
            for k, row in enumerate(votes)
        )
        return torch.stack(list(noised)).argmax(1)

    def _responses(self, logits: Tensor, answers: Tensor, step: int) -> Tensor:
        truth = answers.argmax(1)
        prior = answers if self._settings.candidates == "teacher" else logits
        zeros = torch.zeros(len(truth), dtype=torch.float64)
        # Secret coins, from the source of all randomness that is applied to a record.
        uniforms = torch.special.ndtr(self._noise.add(zeros, 1.0, release=step, name=COINS))
        laws = law(truth.cpu(), prior.softmax(1).cpu(), self._strength)
        return response_at(uniforms.cpu(), laws).to(logits.device)

    def converted(self) -> Converted:
        """Returns what is released."""
        decoder = self._generator.cpu().eval().requires_grad_(False)
        model = Proposer(ProposerConfig(decoder.config, 0.0))
        model.decoder = decoder
        return Converted(model, self.student.cpu().eval().requires_grad_(False))


def rehearsed(
    settings: PaperSettings, facts: PublicFacts
) -> tuple[Callable[[torch.device], Callable[[], object]], int, int]:
    """Returns what `dpgen.stages.timing.rehearse_steps` times: a step of generator and student on
    random images, how many of them a run takes about as long as, and the number of parameters.
    """

    def step_of(device: torch.device) -> Callable[[], object]:
        teacher = _classifier(settings, facts, 0).to(device).requires_grad_(False)
        noise, generator = KeyedNoise(new_key(), "rehearsal"), torch.Generator().manual_seed(0)
        flow = Loop(settings, facts, teacher, noise, 1.0, generator=generator, seed=0, show=False)
        return partial(flow.step, 0)

    sizes = (_classifier(settings, facts, 0), Decoder(DecoderConfig(facts.shape, facts.n_classes)))
    n_steps = settings.n_steps + settings.teacher_steps * (1 + (settings.n_shards or 0))
    n_steps += settings.generator_steps or 0
    return step_of, n_steps, sum(p.numel() for one in sizes for p in one.parameters())


def normalised(rows: Tensor) -> Tensor:
    """Scales rows (B, C) to a norm just below 1, float64; zero where not finite."""
    wide = rows.double()
    return clipped(wide / (wide.norm(dim=1, keepdim=True) + 1e-8), NORMALISED)


def clipped(rows: Tensor, bound: float) -> Tensor:
    """Scales rows (B, C) that are longer to norm ``bound``, float64; zero where not finite."""
    wide = rows.double()
    factors = clip_factors(wide.norm(dim=1), bound)[:, None]
    return torch.where(factors > 0, factors * wide, torch.zeros_like(wide))
