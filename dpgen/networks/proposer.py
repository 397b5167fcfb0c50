"""The proposer, which a sketch releases: a decoder or pictures of a released spectrum, with small
warps and mirror images; and a labeller that may reject images.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dpgen.networks.decoder import Decoder, DecoderConfig
from dpgen.networks.fixed.warps import augmented
from dpgen.networks.labeller import Labeller, LabellerConfig
from dpgen.networks.spectral import SpectralConfig, SpectralPictures

__all__ = ["Proposer", "ProposerConfig"]

ATTEMPTS = 8  # further draws of an image that the labeller keeps rejecting


@dataclass(frozen=True)
class ProposerConfig:
    """All numbers of a proposer.

    Args:
        decoder: configuration of its decoder; None if it has a spectrum.
        warp: strength of the warps.
        labeller: configuration of its labeller; None if it has none.
        spectrum: configuration of its spectral pictures; None if it has a decoder.
        mirror: whether about half of the images are mirrored; those of a spectrum need it not, as
            their law is that of their mirror images where it is to be.
    """

    decoder: DecoderConfig | None
    warp: float
    labeller: LabellerConfig | None = None
    spectrum: SpectralConfig | None = None
    mirror: bool = False

    def __post_init__(self) -> None:
        if (self.decoder is None) == (self.spectrum is None):
            raise ValueError("a proposer must have either a decoder or a spectrum")
        if not 0 <= self.warp < math.inf:
            raise ValueError(f"warp must be a number of at least 0, got {self.warp}")
        judged = self.labeller
        if judged is not None and (judged.shape, judged.n_classes) != (
            self.shape,
            self.n_classes,
        ):
            raise ValueError(
                f"the labeller must be of the proposer's images and classes, {self.shape} "
                f"and {self.n_classes}, got {judged.shape} and {judged.n_classes}"
            )

    @property
    def drawn(self) -> DecoderConfig | SpectralConfig:
        """Returns the configuration of what draws the images."""
        drawn = self.decoder or self.spectrum
        assert drawn is not None
        return drawn

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.drawn.shape

    @property
    def n_classes(self) -> int:
        return self.drawn.n_classes


class Attempts(NamedTuple):
    """Drawn images: pixels (N, C, H, W), how often each was drawn (N,), and whether the labeller
    takes it for another class even so (N,).
    """

    pixels: Tensor
    n_draws: Tensor
    rejected: Tensor


class Proposer(nn.Module):
    """Draws images of given classes; with a labeller an image that it assigns to another class is
    drawn again, up to eight times.

    Args:
        config: the numbers.
    """

    def __init__(self, config: ProposerConfig) -> None:
        super().__init__()
        self.config = config
        self.decoder = None if config.decoder is None else Decoder(config.decoder)
        self.spectrum = None if config.spectrum is None else SpectralPictures(config.spectrum)
        self.labeller = None if config.labeller is None else Labeller(config.labeller)

    @property
    def n_classes(self) -> int:
        return self.config.n_classes

    def judged_by(self, labeller: Labeller) -> Proposer:
        """Returns a proposer with the same images and this labeller."""
        judged = Proposer(dataclasses.replace(self.config, labeller=labeller.config))
        judged.decoder, judged.spectrum, judged.labeller = self.decoder, self.spectrum, labeller
        return judged

    def with_decoder(self, decoder: Decoder) -> Proposer:
        """Returns a proposer that draws from another decoder of the same numbers, and is otherwise
        the same.
        """
        other = Proposer(dataclasses.replace(self.config, decoder=decoder.config, spectrum=None))
        other.decoder, other.labeller = decoder, self.labeller
        return other

    def draw(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Draws images (N, C, H, W) in [-1, 1] of the classes ``labels``, (N,), on the CPU."""
        return self.attempt(labels, generator).pixels

    @torch.no_grad()
    def attempt(self, labels: Tensor, generator: torch.Generator) -> Attempts:
        """Draws the images of `draw`, and counts how often."""
        pixels = self._draw(labels, generator)
        n_draws = torch.ones(len(labels), dtype=torch.int64)
        todo = torch.arange(len(labels))
        for again in range(ATTEMPTS + 1 if self.labeller is not None else 0):
            todo = todo[self.labeller.label(pixels[todo]) != labels[todo]]  # type: ignore[union-attr]
            if again == ATTEMPTS or not len(todo):
                break
            pixels[todo] = self._draw(labels[todo], generator)
            n_draws[todo] += 1
        rejected = torch.zeros(len(labels), dtype=torch.bool)
        if self.labeller is not None:
            rejected[todo] = True
        return Attempts(pixels, n_draws, rejected)

    def _draw(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        drawing = self.decoder or self.spectrum
        assert drawing is not None
        drawn = drawing.draw(labels, generator)
        return augmented(drawn, self.config.warp, self.config.mirror, generator)
