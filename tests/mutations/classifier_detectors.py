"""Detectors that run a whole `fit` of a sketch with a private classifier."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dpgen.auditing.oracle import oracle
from dpgen.configurations.pge import PGESettings
from dpgen.methods.pge import PGE
from dpgen.networks.fixed.gabor import GaborFeatures
from dpgen.privacy.accounting.accountant import epsilon_of
from dpgen.privacy.accounting.events import GaussianLeaf
from dpgen.privacy.mechanisms.softmax import SoftmaxLoss
from dpgen.stages import classifier
from dpgen.stages.classifier_settings import LABEL, ClassifierSettings
from dpgen.stages.sketch_settings import SketchSettings
from dpgen.stages.spectrum_settings import SpectrumSettings
from dpgen.training.refit_settings import RefitSettings
from tests.mutations import fit_detectors
from tests.mutations.fit_detectors import FACTS

N_STEPS, DELTA = 3, 1e-3


def untrained() -> PGE:
    """Three releases, three steps, and a score that is hardly fitted."""
    sketch = SketchSettings(
        spectrum=SpectrumSettings(bands=3, own_spread=True), n_samples=60,
        classifier=ClassifierSettings(share=0.5, n_steps=N_STEPS),
    )  # fmt: skip
    score = RefitSettings(bands=2, n_samples=20, n_steps=1, batch_size=4)
    settings = PGESettings("sketch", sketch=sketch, score=score)
    return PGE(budget=fit_detectors.BUDGET, settings=settings)


def _of_the_classifier(detector: Callable[[Path], str]) -> Callable[[Path], str]:
    """Makes a detector look at the classifier, with a twelfth of its features, whose axes take
    longer than all else.
    """

    def detect(place: Path) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fit_detectors, "untrained", untrained)
            patch.setattr(classifier, "features_for", lambda shape: GaborFeatures(shape, grid=2))
            return detector(place)

    return detect


def classifier_sensitivity(place: Path) -> str:
    """`dpgen.auditing.oracle` on outer products: rows of any length, at weights that are wrong."""
    stages = {stage.label: stage.mechanism for stage in untrained().plan(FACTS).stages}
    moved = oracle(stages[LABEL], loss=SoftmaxLoss())
    return "" if moved.passed else f"a record moved the sum by {moved.largest:.2g} bounds"


def classifier_replay(place: Path) -> str:
    """`dpgen.auditing.replay` on the whole of `fit` of a sketch with a classifier."""
    return _of_the_classifier(fit_detectors.neighbour_replay)(place)


def classifier_isolation(place: Path) -> str:
    """`dpgen.auditing.isolation` of the steps of a classifier: a record by itself, in every row."""
    return _of_the_classifier(fit_detectors.isolated)(place)


def classifier_price(place: Path) -> str:
    """All steps of a classifier together cost what one Gaussian release of their mu costs."""
    stages = {stage.label: stage.mechanism for stage in untrained().plan(FACTS).stages}
    steps = stages[LABEL]
    single = steps.noise_multiplier / N_STEPS**0.5
    true = epsilon_of(GaussianLeaf(1.0, single, 1).event, DELTA, FACTS.relation)
    stated = epsilon_of(steps.event, DELTA, FACTS.relation)
    if abs(stated / true - 1) > 1e-3:
        return f"a classifier of epsilon {true:.3g} is priced at {stated:.3g}"
    return ""


CLASSIFIER: dict[str, Callable[[Path], str]] = {
    "classifier sensitivity": classifier_sensitivity,
    "classifier replay": classifier_replay,
    "classifier isolation": classifier_isolation,
    "classifier price": classifier_price,
}
