"""Settings of a transcription: how another generator and another student are made of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

from dpgen.training.data_free_settings import RefinementSettings, StudentSettings

# What a transcription is made of: a run with a certificate, a run with a notice, a classifier that
# comes alone. The last two have no guarantee.
CERTIFIED, UNVERIFIED, ALONE = MODES = ("certified", "unverified", "alone")
# The generator of a lone classifier begins untrained: it takes more steps, stays near nothing, and
# looks for images that the student gets wrong.
OF_A_LONE_CLASSIFIER: dict[str, Any] = {
    "n_steps": 800, "anchor_weight": 0.0, "adversarial_weight": 0.5,
}  # fmt: skip


@dataclass(frozen=True)
class TranscriptionSettings:
    """Settings of a transcription. All of them are free: no record is read.

    Args:
        mode: what it is made of, "certified", "unverified" or "alone"; it is found from what is
            given, and recorded here.
        refinement: how the generator is refined by the teacher, the run's released classifier.
        student: the classifier that learns from the generator's images.
    """

    mode: str = CERTIFIED
    refinement: RefinementSettings = field(default_factory=RefinementSettings)
    student: StudentSettings = field(default_factory=StudentSettings)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(
                f"mode of a transcription must be one of {', '.join(MODES)}, got {self.mode!r}"
            )
        r = self.refinement
        if self.mode != ALONE:
            return
        for name in ("anchor", "moments"):
            if r.weights[name] > 0:
                raise ValueError(
                    f"refinement.{name}_weight must be 0 for a lone classifier, got "
                    f"{r.weights[name]:g}: there is no released generator to stay near"
                )
        if r.n_steps < 1:
            raise ValueError(
                "refinement.n_steps must be at least 1 for a lone classifier, got 0: its generator "
                "begins untrained"
            )

    @classmethod
    def alone(cls) -> Self:
        """Returns the defaults for a classifier that comes alone."""
        return cls(mode=ALONE, refinement=RefinementSettings(**OF_A_LONE_CLASSIFIER))
