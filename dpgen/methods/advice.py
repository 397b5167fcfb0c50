"""Chooses method, settings and image size for a data set if no method is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dpgen.images.facts import PublicFacts
from dpgen.stages.sketch_settings import SketchSettings

# On a CPU a run should take minutes: about ten at 32x32 on two cores, about forty at 64x64 in grey.
CPU_NUMBERS, GPU_NUMBERS = 3 * 32 * 32, 3 * 128 * 128
SIZES = (128, 64, 32)
# Per class. With fewer records the labeller's release is too noisy for its share of the budget.
LABELLER_RECORDS = 1000
# Above these, published DP-SGD diffusion models are better on colour images than a few releases.
SGD_RECORDS, SGD_EPSILON = 10_000, 5.0


@dataclass(frozen=True)
class Advice:
    """The recommended run, with reasons.

    Args:
        method: a key of `dpgen.methods.METHODS`.
        settings: settings by dotted name, as for ``--set``.
        reasons: a line on the method, and one on the settings.
    """

    method: str
    reasons: tuple[str, str]
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """Writes the method and its settings as on the command line."""
        return " ".join([self.method, *(f"--set {k}={v}" for k, v in self.settings.items())])


def advised(facts: PublicFacts, epsilon: float, *, gpu: bool) -> Advice:
    """Chooses a method and its settings, from public facts, the budget and the kind of machine
    alone: the same on a resume.

    Source: the accuracies in README.md and `assets/`; for large colour data sets on a GPU the
    published numbers in `dpgen/report/published.toml`.
    """
    n = facts.n_records
    colour = facts.shape[0] == 3
    if gpu and colour and n >= SGD_RECORDS and epsilon >= SGD_EPSILON:
        return Advice(
            "dp-sad",
            (
                f"dp-sad: with a GPU, {n} colour images and epsilon {epsilon:g}, DP-SGD learns "
                "more than a few releases tell",
                "it starts from the images of a sketch, so that few steps are spent on what is "
                "cheap to learn",
            ),
            {"teacher.warm_start": "sketch"},
        )
    settings = {"mode": "sketch"}
    spectral = SketchSettings.chosen(None, facts).spectrum is not None
    where = "a GPU is not needed" if gpu else "there is no GPU here"
    what = "the whole budget goes to a few releases of class embeddings"
    if spectral:
        what = (
            "the whole budget goes to means and spreads of brightness and colours; finer detail is "
            "made up"
        )
    elif facts.n_classes > 1 and n / facts.n_classes >= LABELLER_RECORDS:
        settings["sketch.labeller_share"] = "0.2"
        what = (
            f"{n / facts.n_classes:.0f} records a class pay for a labeller, which redraws images "
            "that look like another class"
        )
    return Advice(
        "pge", (f"pge in mode sketch: {where}, and it takes minutes on a CPU", what), settings
    )


def advised_size(shape: tuple[int, int, int], *, gpu: bool) -> int | None:
    """Returns the side of the square to which images of this shape are resized; None for no resize.
    """
    channels, height, width = shape
    most = GPU_NUMBERS if gpu else CPU_NUMBERS
    if channels * height * width <= most:
        return None
    return next(size for size in SIZES if channels * size * size <= most)
