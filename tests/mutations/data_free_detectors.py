"""Detectors that run a whole `fit` of dpdfd: a sketch, a teacher, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from dpgen.configurations.dpdfd import DPDFDSettings
from dpgen.methods.dpdfd import DPDFD
from dpgen.networks.fixed.gabor import GaborFeatures
from dpgen.stages import classifier
from dpgen.stages.classifier_settings import ClassifierSettings
from dpgen.stages.sketch_settings import SketchSettings
from dpgen.training.data_free_settings import RefinementSettings, StudentSettings
from tests.mutations import fit_detectors


def untrained() -> DPDFD:
    """Two releases and two steps, a generator of one step and a student of two."""
    sketch = SketchSettings(
        n_steps=(1, 1), n_per_class=2, n_frequencies=8, n_hidden_frequencies=4, n_samples=60,
        classifier_steps=1, classifier=ClassifierSettings(share=0.5, n_steps=2),
    )  # fmt: skip
    settings = DPDFDSettings(
        sketch=sketch, refinement=RefinementSettings(n_steps=1, batch_size=4),
        student=StudentSettings(n_steps=2, batch_size=8, width=8, agreed=False),
    )  # fmt: skip
    return DPDFD(budget=fit_detectors.BUDGET, settings=settings)


def data_free_replay(place: Path) -> str:
    """`dpgen.auditing.replay` on the whole of `fit` of dpdfd."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_detectors, "untrained", untrained)
        patch.setattr(classifier, "features_for", partial(GaborFeatures, grid=2))
        return fit_detectors.neighbour_replay(place)


DATA_FREE: dict[str, Callable[[Path], str]] = {"data-free replay": data_free_replay}
