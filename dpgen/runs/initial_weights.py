"""Weights with which the network of a run begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from dpgen.networks.architecture import Architecture
from dpgen.networks.denoiser import Denoiser

SIGMA_DATA = 0.5
ROWS = "class_embedding.weight"


@dataclass(frozen=True, eq=False)
class InitialWeights:
    """Weights with which the network of a run starts.

    Args:
        name: name of the folder, as a certificate states it.
        sha256: of the file with the weights.
        size: the size of their network.
        channels: of its images.
        tensors: the weights of the ``UNet2DModel`` by name, float32.
        class_names: the classes of the first rows of its class embedding, which are followed by the
            row of no class; None for a network without classes.
        run: the certificate of the run that released them; None where they are declared public.
        exported: whether that certificate lies beside an export, whose files it does not cover.
    """

    name: str
    sha256: str
    size: Architecture
    channels: int
    tensors: Mapping[str, Tensor]
    class_names: tuple[str, ...] | None
    run: Mapping[str, Any] | None = None
    exported: bool = False

    @classmethod
    def made_up(cls, size: Architecture, shape: tuple[int, int, int], seed: int) -> Self:
        """Makes random weights of this size for images of ``shape``, (C, H, W), which stand in for
        weights of others where the steps after them are examined.
        """
        bands = 0 if size.residual == "off" else 1
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = Denoiser(size.config(shape, 1, prior_bands=bands))
            tensors = {k: t.clone() for k, t in network.unet.state_dict().items() if k != ROWS}
            tensors["conv_out.weight"].normal_(std=0.02)  # which is zero in an untrained one
        return cls("made up", f"seed {seed}", size, shape[0], tensors, None)

    def shared_classes(self, class_names: Sequence[str]) -> list[str]:
        """Returns the classes among these whose embedding is taken over, by their name."""
        return [name for name in class_names if name in (self.class_names or ())]

    def put_into(self, denoiser: Denoiser, class_names: Sequence[str]) -> None:
        """Sets the weights of a denoiser of this size. A Gaussian that it corrects is not set.

        A class of the same name takes that embedding, every other one that of no class; where these
        weights know no classes all embeddings are zero, so that labels change nothing.

        Args:
            denoiser: the network, of this size and number of channels.
            class_names: its classes.
        """
        held, null = dict(self.tensors), len(self.class_names or ())
        own: Any = denoiser.unet.get_submodule("class_embedding")
        if self.class_names is None:
            held[ROWS] = torch.zeros_like(own.weight)
        else:
            known = self.class_names
            rows = [known.index(name) if name in known else null for name in class_names]
            rows += [null] * (len(own.weight) - len(rows))
            held[ROWS] = held[ROWS][rows]
        denoiser.unet.load_state_dict(held)


def require_sigma(folder: Path, sigma_data: Any) -> None:  # noqa: ANN401
    """Refuses weights for data of another standard deviation than this package assumes."""
    if sigma_data != SIGMA_DATA:
        raise ValueError(
            f"--init {folder}: its sigma_data must be {SIGMA_DATA}, got {sigma_data!r:.60}"
        )


def require_channels(folder: Path, channels: Any, shape: tuple[int, int, int]) -> None:  # noqa: ANN401
    """Refuses weights for images of another number of channels than ``shape``, (C, H, W), has."""
    if channels != shape[0]:
        raise ValueError(
            f"--init {folder}: its images must have {shape[0]} channels, as the records, got "
            f"{channels!r:.60}: open the records with --channels"
        )
