"""What a method asks of the sketch whose decoder it refines: a decoder, one teacher, classes."""

from __future__ import annotations

from dataclasses import replace

from dpgen.images.facts import PublicFacts
from dpgen.stages.classifier_settings import ClassifierSettings
from dpgen.stages.sketch_settings import SPECTRUM, SketchSettings


def require_decoder(sketch: SketchSettings, method: str) -> None:
    """Raises ValueError for a sketch that has a spectrum in the place of a decoder.

    Args:
        method: its id, for the message.
    """
    if sketch.kind == SPECTRUM or sketch.spectrum is not None:
        raise ValueError(
            f"{method} refines a decoder, and a spectrum has none: drop sketch.spectrum.*, and "
            "sketch.kind or set it to decoder, or take dpdfd with prior=moments"
        )


def require_one_teacher(sketch: SketchSettings, method: str) -> None:
    """Raises ValueError for a sketch with a labeller and a classifier."""
    if sketch.labeller_share > 0 and sketch.classifier is not None:
        raise ValueError(
            f"{method} has one teacher: set sketch.labeller_share or sketch.classifier.*, not both"
        )


def require_classes(facts: PublicFacts, method: str) -> None:
    """Raises ValueError where there is nothing for a teacher to tell apart."""
    if facts.n_classes < 2:
        raise ValueError(
            f"{method} needs records of at least 2 classes, which its teacher tells apart, got 1: "
            "take pge with mode=sketch"
        )


def taught(sketch: SketchSettings, share: float, kind: str = "decoder") -> SketchSettings:
    """Returns the sketch of this kind with a teacher: its classifier, with this share of its mu^2
    unless another one is given, or the labeller, where that has a share.
    """
    sketch, teacher = replace(sketch, kind=kind), sketch.classifier
    if sketch.labeller_share == 0 and (teacher is None or teacher.share is None):
        return replace(sketch, classifier=replace(teacher or ClassifierSettings(), share=share))
    return sketch
