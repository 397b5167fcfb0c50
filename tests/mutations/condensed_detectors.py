"""Detectors that run a whole `fit` of a condensed set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dpgen.configurations.m3d import CondensedSettings, M3DSettings
from dpgen.methods.m3d import M3D
from dpgen.stages.stacked_plan import EmbeddingSettings
from tests.mutations import fit_detectors


def untrained() -> M3D:
    """Two small releases, and a set that is hardly fitted."""
    embedding = EmbeddingSettings(
        n_pixel_frequencies=6, n_encoders=1, width=4, n_frequencies=6,
        n_hidden_frequencies=4, n_samples=40, classifier_steps=2,
    )  # fmt: skip
    condensed = CondensedSettings(images_per_class=2, n_steps=1)
    settings = M3DSettings(embedding=embedding, condensed=condensed)
    return M3D(budget=fit_detectors.BUDGET, settings=settings)


def _of_a_condensed_set(detector: Callable[[Path], str], place: Path) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_detectors, "untrained", untrained)
        return detector(place)


def condensed_replay(place: Path) -> str:
    """`dpgen.auditing.replay` on the whole of `fit` of a condensed set."""
    return _of_a_condensed_set(fit_detectors.neighbour_replay, place)


def condensed_ledger(place: Path) -> str:
    """As the ledger's detector, for the releases of a condensed set."""
    return _of_a_condensed_set(fit_detectors.ledger, place)


CONDENSED: dict[str, Callable[[Path], str]] = {
    "condensed replay": condensed_replay,
    "condensed ledger": condensed_ledger,
}
