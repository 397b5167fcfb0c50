"""Trains a student from votes and from a released teacher, on a released manifold of images.

The student descends its cross-entropy as `dpgen.training.voted.learn` says, with the teacher as the
judge of images that have no votes, and what `dpgen.training.tangent` says on drawn images of
whatever class. Teacher, autoencoder, generator and votes are released, so that it is
post-processing of them (theorem A3).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from dpgen.networks.labeller import Labeller
from dpgen.networks.proposer import Proposer
from dpgen.networks.student import Student
from dpgen.networks.vae import VAE
from dpgen.training import voted
from dpgen.training.data_free_settings import StudentSettings
from dpgen.training.manifold_settings import ManifoldSettings
from dpgen.training.tangent import TangentNormal


@dataclass(frozen=True)
class Regularised:
    """A `dpgen.training.voted.Learn`.

    Args:
        teacher: decides on images that have no votes; released, and not changed.
        vae: the manifold; None where nothing is regularised. It is not changed.
        settings: the numbers of the regularisation.
    """

    teacher: Labeller | Student
    vae: VAE | None
    settings: ManifoldSettings

    def __call__(
        self, student: Student, proposer: Proposer, judge: Student | None, images: Tensor | None,
        labels: Tensor | None, settings: StudentSettings, *, generator: torch.Generator, show: bool,
    ) -> None:  # fmt: skip
        """Trains the student, in place; it learns from the teacher in place of ``judge``."""
        device = next(student.parameters()).device
        further: voted.Regularise | None = None
        if self.vae is not None:
            moves = TangentNormal(copy.deepcopy(self.vae).to(device), self.settings, generator)

            def further(student: Student, pixels: Tensor) -> Tensor:
                return moves(student, pixels[: self.settings.n_moved])

        voted.learn(
            student, proposer, copy.deepcopy(self.teacher).to(device), images, labels, settings,
            generator=generator, show=show, regularise=further,
        )  # fmt: skip
