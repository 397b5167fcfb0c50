"""Detectors that run a whole `fit` of the spectrum."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dpgen.configurations.pge import PGESettings
from dpgen.methods.pge import PGE
from dpgen.stages.sketch_settings import SketchSettings
from dpgen.stages.spectrum_settings import SpectrumSettings
from dpgen.training.refit_settings import RefitSettings
from tests.mutations import fit_detectors


def untrained() -> PGE:
    """Three releases, and a score that is hardly fitted."""
    sketch = SketchSettings(spectrum=SpectrumSettings(bands=3, own_spread=True))
    score = RefitSettings(bands=2, n_samples=20, n_steps=1, batch_size=4)
    settings = PGESettings("sketch", sketch=sketch, score=score)
    return PGE(budget=fit_detectors.BUDGET, settings=settings)


def spectrum_replay(place: Path) -> str:
    """`dpgen.auditing.replay` on the whole of `fit` of a spectrum."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_detectors, "untrained", untrained)
        return fit_detectors.neighbour_replay(place)


SPECTRUM: dict[str, Callable[[Path], str]] = {"spectrum replay": spectrum_replay}
