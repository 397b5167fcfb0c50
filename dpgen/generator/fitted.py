"""Defines a fitted generator, which draws samples, states its privacy and can be saved."""

from __future__ import annotations

import abc
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from dpgen.data.samples import Samples
from dpgen.generator.draw import Draw
from dpgen.generator.drawing import (
    Drawing,
    Drawn,
    Judge,
    Redraws,
    Scored,
    draw_blocks,
    draws_nothing,
)
from dpgen.generator.fair_labels import Fair
from dpgen.generator.labels import Labels
from dpgen.generator.released import NotFitted, Released
from dpgen.generator.sampler_settings import SamplerSettings
from dpgen.images.images import Images
from dpgen.networks.labeller import Labeller
from dpgen.networks.proposer import Proposer
from dpgen.networks.student import Student
from dpgen.privacy.accounting.accountant import Budget
from dpgen.runs.context import Workplace
from dpgen.runs.released import copy_run
from samplers.types import Sampler


class Fitted(Released, abc.ABC):
    """Draws images from released networks."""

    budget: Budget
    asked: tuple[Budget, Budget] | None = None  # an earlier budget, and as it was settled
    settings: Any
    # The modes that can start from public images or other weights, with settings `teacher.public`.
    public_modes: ClassVar[frozenset[str]] = frozenset()
    # Trains their network on public images, or takes other weights, and returns the place with its
    # weights; None where no mode can.
    begun_on: ClassVar[Callable[..., Workplace] | None] = None
    # What a process does that computes shares for another one; None where nothing is shared.
    assist: ClassVar[Callable[..., str] | None] = None

    def __repr__(self) -> str:
        b = self.budget
        told = [f"mode={self.settings.mode!r}", f"epsilon={b.epsilon}", f"delta={b.delta}"]
        if self.facts is None or self.folder is None:
            return f"{type(self).__name__}({', '.join(told)}; not fitted)"
        return f"{type(self).__name__}({', '.join(told)}; fitted on {self.facts}, in {self.folder})"

    @abc.abstractmethod
    def default_sampler(self, network: str = "model") -> Sampler | None:
        """Returns the default sampler of a released network; None if the network has no score and
        draws its images itself.
        """

    def sampler_of(self, network: str = "model") -> Sampler | None:
        """Returns the `default_sampler`. Raises ValueError for a network that draws no images."""
        drawn = self.networks.get(network)
        if isinstance(drawn, Scored):
            return self.default_sampler(network)
        if not isinstance(drawn, Drawn):
            known = [name for name, one in self.networks.items() if isinstance(one, Scored | Drawn)]
            raise draws_nothing(network, sorted(known), self.folder)
        return None

    def sample(
        self,
        n: int | None = None,
        *,
        labels: Labels | None = None,
        fair: Fair | None = None,
        sampler: Sampler | SamplerSettings | None = None,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        guidance: float = 0.0,
        labeller_guidance: float = 0.0,
        network: str = "model",
        device: torch.device | str = "cpu",
        precision: str = "no",
    ) -> Samples:
        """Draws ``n`` synthetic images. It costs no privacy, however often it is called, and is
        deterministic given its seed.

        Args:
            n: number of images, at least 1; None takes as many as there are labels.
            labels: (n,) positions or names of classes, as ``["ill", "well"]``, or counts by class,
                as ``{"ill": 100, "well": 50}``; ``"released"`` takes the proportions of
                `class_shares`; ``"uniform"`` and None give image i the class ``i % n_classes``,
                so that the first images are the same however many are drawn.
            fair: `FairClasses`, or a file of them: draws targets independently of groups, by
                `FairLabels`; ``labels`` may then be None or ``"released"``.
            sampler: from `samplers`, or the settings of one; None takes the method's own. A network
                that draws its images itself takes none, and no guidance.
            seed: seed of the images, as ``--seed`` of ``dpgen sample``.
            generator: source of the seed instead; without either a fresh seed is drawn.
            guidance: weight of classifier-free guidance.
            labeller_guidance: weight of classifier guidance by the private labeller, if the
                generator has one.
            network: name of a released network: "model", or "teacher" for dp-sad.
            device, precision: as for `Draw`; the images are returned on the CPU.

        Returns:
            Images with pixels (n, C, H, W), float32 in [-1, 1].

        Raises:
            NotFitted: the generator has learned nothing yet.
            ValueError: an argument is out of range, or the generator lacks the network or labeller.
        """
        if seed is not None:
            if generator is not None:
                raise ValueError("give seed= or generator=, not both")
            generator = torch.Generator().manual_seed(seed)
        draw = Draw(sampler, guidance, labeller_guidance, network, device, precision)
        chosen = self.labels(labels, n, fair)
        blocks = self.sample_blocks(n, draw, labels=chosen, generator=generator)
        return replace(Samples.joined(blocks), class_names=self._facts.class_names)

    def sample_blocks(
        self,
        n: int | None,
        draw: Draw = Draw(),  # noqa: B008  immutable
        *,
        labels: Labels | None = None,
        generator: torch.Generator | None = None,
        blocks: range | None = None,
        redraws: Redraws | None = None,
    ) -> Iterator[Images]:
        """Yields the images of `sample`, up to 256 at a time, for the writers of sets.

        Args:
            blocks, redraws: as for `dpgen.generator.drawing.draw_blocks`; the other arguments are
                those of the whole set.
        """
        chosen = self.labels(labels, n)
        drawing = self.drawing(draw)
        generator = generator or torch.Generator().manual_seed(secrets.randbits(63))
        seed = int(torch.randint(2**62, (), generator=generator))
        yield from draw_blocks(drawing, chosen, seed, blocks=blocks, redraws=redraws)

    def drawing(self, draw: Draw) -> Drawing:
        """Resolves a `Draw` for this generator. Raises ValueError for a network, labeller or option
        that it does not have.
        """
        judge = None
        if draw.labeller_guidance != 0:
            if self.classifier is None:
                raise ValueError(
                    f"labeller_guidance must be 0, got {draw.labeller_guidance}: this generator "
                    "has no labeller (a sketch has one with sketch.labeller_share above 0)"
                )
            judge = Judge(self.classifier, draw.labeller_guidance)
        own, network = self.sampler_of(draw.network), self.networks[draw.network]
        given = draw.built()
        half = draw.precision == "bf16"
        if not isinstance(network, Scored) and (
            given is not None or draw.guidance or judge or half
        ):
            raise ValueError(
                f"network {draw.network!r} draws alone: no sampler, guidance or precision is for it"
            )
        device = draw.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        proposes = draw.network == "model" and given in (None, own)
        return Drawing(
            network, own if given is None else given, draw.guidance, device,
            self.proposer if proposes else None, judge, half,
        )  # fmt: skip

    @property
    def proposer(self) -> Proposer | None:
        """Returns the proposer from whose images the default sampler starts; None if it starts from
        noise.
        """
        return None

    @property
    def labeller(self) -> Labeller | None:
        """Returns the sketch's labeller, which may guide a sampler; None if it had no share of the
        budget.
        """
        proposals = self.networks.get("proposals")
        return proposals.labeller if isinstance(proposals, Proposer) else None

    @property
    def classifier(self) -> Labeller | None:
        """Returns the private classifier, which learned from the records under the same guarantee;
        the sketch's labeller where it has no other, and None where it has neither.
        """
        own = self.networks.get("classifier")
        return own if isinstance(own, Labeller) else self.labeller

    @property
    def student(self) -> Student | None:
        """Returns the classifier that learned from drawn images alone, under the same guarantee;
        None where the method trains none.
        """
        found = self.networks.get("student")
        return found if isinstance(found, Student) else None

    def classify(self, pixels: Tensor) -> list[str]:
        """Names the class of each image, (B, C, H, W) in [-1, 1], by the `student`. Raises
        ValueError where there is none, or for images of another shape.
        """
        facts, student = self._facts, self.student
        if student is None:
            raise ValueError(
                f"{type(self).__name__} has no student, which runs of dpdfd, dfkd, dpsd and dgd "
                "have: use its classifier, or train one on samples"
            )
        return [facts.class_names[k] for k in student.label(pixels).tolist()]

    def save(self, path: str | Path) -> None:
        """Copies the fitted run to ``path``, which must be absent or empty."""
        if self.folder is None:
            raise NotFitted(f"{type(self).__name__}.save needs fit() or load() first")
        copy_run(self.folder, self.document, Path(path))
