"""Draws samples in fixed-size blocks, each from its own seed, so the first n images are the same
however many are requested (with the default labels).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

from dpgen.images.grid import n_preview
from dpgen.images.images import Images, PublicFacts
from dpgen.networks.condensed import turns_of
from dpgen.networks.labeller import Labeller
from dpgen.networks.proposer import Attempts, Proposer
from samplers import Annealed, Sampler, ScoreFn, posterior_guided

BLOCK = 256  # the most images that are drawn from one seed
BLOCK_AREA = 256 * 64 * 64  # the most pixels of one channel in a block


def block_size(shape: tuple[int, int, int]) -> int:
    """Returns the number of images drawn from one seed: 256, fewer for images of more than 64 x 64
    pixels, at least 4.
    """
    return max(4, min(BLOCK, BLOCK_AREA // (shape[1] * shape[2])))


def n_blocks(n_images: int, shape: tuple[int, int, int]) -> int:
    """Returns the number of blocks in which ``n_images`` images are drawn."""
    return -(-n_images // block_size(shape))


def n_for_preview(facts: PublicFacts) -> int:
    """Returns the number of images that are drawn for the preview of a run: whole blocks."""
    return n_blocks(n_preview(facts.n_classes), facts.shape) * block_size(facts.shape)


@runtime_checkable
class Scored(Protocol):
    """A released network that a sampler follows."""

    def score_fn(self, labels: Tensor, guidance: float = 0.0) -> ScoreFn:
        """Returns the score function of images (B, C, H, W) of these labels, (B,), on the network's
        device.
        """


@runtime_checkable
class Drawn(Protocol):
    """A released network that makes images itself."""

    def draw(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Draws images (B, C, H, W) in [-1, 1] of these labels, (B,): a function of the weights,
        the labels and the generator. Generator, labels and images are on the CPU.
        """


@runtime_checkable
class DrawnInTurn(Protocol):
    """A `Drawn` network that holds a fixed number of images of each class, and draws them in turn.
    """

    @property
    def n_distinct(self) -> int:
        """Returns the number of images of each class."""

    @property
    def changes(self) -> bool:
        """Returns whether an image that is drawn again is changed at random."""

    def draw_in_turn(self, labels: Tensor, turns: Tensor, generator: torch.Generator) -> Tensor:
        """Draws as `Drawn.draw` does, where ``turns`` (B,) of the images of its class were drawn
        before each image.
        """


class Judge(NamedTuple):
    """A labeller, and the weight of its guidance."""

    labeller: Labeller
    weight: float

    def tilted(self, score_fn: ScoreFn, labels: Tensor) -> ScoreFn:
        """Returns the score, guided towards images that the labeller assigns to ``labels`` (B,)."""
        labeller = self.labeller.to(labels.device)
        return posterior_guided(
            score_fn, lambda clean: -cross_entropy(labeller(clean), labels, reduction="none"),
            self.weight,
        )  # fmt: skip


class Drawing(NamedTuple):
    """A `dpgen.generator.draw.Draw` resolved for one generator: everything that draws its images.

    Args:
        network: a released network with ``config.shape``, ``n_classes`` and the method of `Scored`
            or, without a sampler, of `Drawn`.
        sampler: the sampler; None for a network that draws its images itself.
        guidance: weight of classifier-free guidance.
        device: device on which the images are computed.
        proposer: draws the images from which a sampler with a method `refine` starts, instead of
            noise.
        judge: guides the score towards images that a labeller assigns to their class.
        half: whether the network computes its score in bfloat16; all else is float32.
    """

    network: Any
    sampler: Sampler | None
    guidance: float = 0.0
    device: torch.device | str = "cpu"
    proposer: Proposer | None = None
    judge: Judge | None = None
    half: bool = False

    def score_fn(self, labels: Tensor) -> ScoreFn:
        """Returns the score that the sampler follows, for images of these labels (B,), which lie on
        the device.
        """
        found: ScoreFn = self.network.score_fn(labels, self.guidance)
        if self.half:
            found = _in_half(found, torch.device(self.device).type)
        return found if self.judge is None else self.judge.tilted(found, labels)

    @property
    def filter(self) -> Labeller | None:
        """Returns the labeller that sends images back to be drawn again; None if there is none."""
        proposer = self.network if isinstance(self.network, Proposer) else self.proposer
        return None if proposer is None else proposer.labeller


@dataclass
class Redraws:
    """Counts images that were drawn again because a labeller took them for another class.

    Args:
        images: how many were.
        draws: further draws of all of them together.
        rejected: images that it takes for another class even so.
    """

    images: int = 0
    draws: int = 0
    rejected: int = 0

    def add(self, other: Redraws) -> None:
        """Adds the counts of other images."""
        self.images += other.images
        self.draws += other.draws
        self.rejected += other.rejected

    @property
    def told(self) -> dict[str, int]:
        """Returns the counts by name, as the statement of a set lists them."""
        return asdict(self)

    def possible(self, n: int) -> bool:
        """Returns whether these can be the counts of ``n`` images: each that was drawn again was so
        at least once, and only those are rejected.
        """
        return 0 <= self.rejected <= self.images <= min(n, self.draws)

    def taken(self) -> Redraws:
        """Returns the counts, and begins anew at zero."""
        counted = replace(self)
        self.images = self.draws = self.rejected = 0
        return counted

    @classmethod
    def of(cls, found: Attempts, n: int) -> Redraws:
        """Counts the first ``n`` images."""
        further = found.n_draws[:n] - 1
        return cls(
            int((further > 0).sum()), int(further.sum()), int(found.rejected[:n].sum())
        )  # fmt: skip


def draw_blocks(
    drawing: Drawing, labels: Tensor, seed: int, *, blocks: range | None = None,
    redraws: Redraws | None = None,
) -> Iterator[Images]:  # fmt: skip
    """Yields samples for ``labels``, (N,), `block_size` at a time, each block from its own seed.

    The last block is drawn at full size and cut. With chosen labels, the images of a block depend
    on all of its labels when a proposer redraws some of them.

    Args:
        blocks: the numbers of the blocks to draw; None draws all. A block is the same whichever
            others are drawn.
        redraws: counts what a proposer draws again, of the images that are yielded.
    """
    redraws = Redraws() if redraws is None else redraws
    network, sampler, device, proposer = (
        drawing.network, drawing.sampler, drawing.device, drawing.proposer
    )  # fmt: skip
    shape = network.config.shape
    size = block_size(shape)
    if sampler is not None:
        network = network.to(device)
    turns = turns_of(labels) if isinstance(network, DrawnInTurn) else None
    for block in range(n_blocks(len(labels), shape)) if blocks is None else blocks:
        first = block * size
        part = labels[first : first + size]
        whole = _whole(part, first, size, network.n_classes)
        rng = torch.Generator().manual_seed((seed + block * 0x9E3779B97F4A7C15) % 2**63)
        with torch.no_grad():
            if isinstance(network, Proposer):
                found = network.attempt(whole, rng)
                redraws.add(Redraws.of(found, len(part)))
                pixels = found.pixels
            elif turns is not None:
                taken = turns[first : first + size]
                taken = pad(taken, (0, size - len(taken)))  # of images that are cut below
                pixels = network.draw_in_turn(whole, taken, rng)
            elif sampler is None:
                pixels = network.draw(whole, rng)
            else:
                noise = torch.randn(size, *shape, generator=rng).to(device)
                own = torch.Generator(device=device).manual_seed(rng.initial_seed() ^ 1)
                score_fn = drawing.score_fn(whole.to(device))
                if proposer is None:
                    pixels = sampler(score_fn, noise, generator=own)
                else:
                    found = proposer.attempt(whole, rng)
                    redraws.add(Redraws.of(found, len(part)))
                    start = found.pixels.to(device)
                    pixels = cast(Annealed, sampler).refine(score_fn, start, generator=own)
        yield Images(pixels[: len(part)].float().clamp(-1, 1).cpu(), part)


def _in_half(score_fn: ScoreFn, device: str) -> ScoreFn:
    """Computes a score with the matrix products and convolutions of its network in bfloat16."""

    def half(x: Tensor, sigma: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16):
            return score_fn(x, sigma).float()

    return half


def _whole(labels: Tensor, first: int, size: int, n_classes: int) -> Tensor:
    """Fills ``labels``, which begin at image ``first``, up to a whole block with default labels."""
    more = torch.arange(first + len(labels), first + size) % n_classes
    return torch.cat([labels, more])


def draws_nothing(network: str, known: Sequence[str], folder: Path | None) -> ValueError:
    """Returns the error for a network that draws no images.

    Args:
        network: its name.
        known: names of the networks of the run that draw images, which may be none.
        folder: of the run.
    """
    if known:
        return ValueError(f"network must be {' or '.join(known)}, got {network!r}")
    return ValueError(
        f"{folder or 'this run'} has released a classifier and no generator: no images can be "
        "drawn. `dpgen evaluate` scores its classifier, `dpgen export` writes it as ONNX"
    )
