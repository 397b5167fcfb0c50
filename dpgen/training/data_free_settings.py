"""The settings of data-free training: of a generator that is refined, of labels and students."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

# Of images that are drawn once; the pixels of all together take at most 400 MB.
FEWEST_IMAGES, MOST_IMAGES, MOST_PIXELS = 1000, 20_000, 100_000_000
HURRIED_IMAGES = 8

@dataclass(frozen=True)
class RefinementSettings:
    """The settings of the refinement of a released generator by a released teacher. It reads no
    record and costs no privacy. A weight of 0 leaves its loss out.

    Args:
        n_steps: training steps; 0 leaves the generator as it was released.
        batch_size: images per step.
        learning_rate: learning rate of the generator (Adam).
        class_weight: weight of the cross-entropy of the teacher's answer to the class that was
            asked for.
        anchor_weight: weight of the mean squared distance of the pixels to those that the released
            generator makes of the same latent.
        moments_weight: weight of the squared distance of class means and standard deviations, of
            pixels and of the teacher's features, to those of the released generator.
        adversarial_weight: weight of the divergence of the student's answer from the teacher's,
            which the generator then seeks: images that a student that learns beside it gets wrong.
        balance_weight: weight of the negative entropy of the teacher's mean answer.
        activation_weight: weight of the negative mean size of the teacher's features.
        vaccine_weight: weight of the divergence between the answers of the teacher and of copies of
            it with shuffled channels, where they agree, which the generator then seeks: a defence
            against a teacher with a backdoor, for which 0.1 is usual.
    """

    n_steps: int = 350
    batch_size: int = 128
    learning_rate: float = 1e-3
    class_weight: float = 1.0
    anchor_weight: float = 20.0
    moments_weight: float = 0.0
    adversarial_weight: float = 0.0
    balance_weight: float = 0.0
    activation_weight: float = 0.0
    vaccine_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.n_steps < 0:
            raise ValueError(
                f"n_steps of the refinement must be at least 0, got {self.n_steps}"
            )
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be greater than 0, got {self.learning_rate}")
        for name, weight in self.weights.items():
            if not 0 <= weight < math.inf:
                raise ValueError(f"{name}_weight must be at least 0, got {weight}")
        own = [weight for name, weight in self.weights.items() if name != "vaccine"]
        if self.n_steps > 0 and not any(own):
            raise ValueError(
                "a refinement must have a loss, beside the vaccine if it has that: give one a "
                "weight above 0, or set n_steps to 0"
            )

    @property
    def weights(self) -> dict[str, float]:
        """Returns the weights by name of their loss, as in `dpgen.training.data_free_losses`."""
        names = (field.name for field in fields(self))
        return {
            name.removesuffix("_weight"): getattr(self, name)
            for name in names if name.endswith("_weight")
        }  # fmt: skip

    def hurried(self) -> RefinementSettings:
        """Returns shorter settings for the audit; the refinement costs no privacy."""
        return replace(self, n_steps=min(self.n_steps, 2), batch_size=min(self.batch_size, 4))


@dataclass(frozen=True)
class StudentSettings:
    """The settings of the student, a classifier that learns from drawn images alone.

    Args:
        n_steps: training steps.
        batch_size: images per step, one half drawn anew and one half from earlier steps, at
            least 2.
        learning_rate: learning rate (Adam) of the first step; it falls to zero along half a cosine.
        width: channels of its first block, a multiple of 8.
        memory: number of earlier steps whose images are kept.
        agreed: whether it learns only from images that the teacher takes for the class that was
            asked for.
        retain: whether earlier images count as they would after a step on the new ones alone, so
            that what is new is learned where it does not undo what is known; a step then takes
            twice as long.
        affinity: weight of the squared distance between how alike the student finds any two images
            and how alike the teacher does; 0 leaves it out.
        mixing: whether a part of each new image is replaced by that of another one, with labels in
            proportion (cut-mix).
        retrospect: whether it unlearns, in the last tenth of its steps, what a perturbation of all
            images does that changes the teacher's answers most: a defence against a teacher with a
            backdoor.
    """

    n_steps: int = 500
    batch_size: int = 128
    learning_rate: float = 2e-3
    width: int = 32
    memory: int = 200
    agreed: bool = True
    retain: bool = False
    affinity: float = 0.0
    mixing: bool = False
    retrospect: bool = False

    def __post_init__(self) -> None:
        for name, least in (("n_steps", 1), ("batch_size", 2), ("memory", 1)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"{name} of the student must be at least {least}, got {getattr(self, name)}"
                )
        if self.width < 8 or self.width % 8:
            raise ValueError(
                f"width of the student must be a positive multiple of 8, got {self.width}"
            )
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be greater than 0, got {self.learning_rate}")
        if not 0 <= self.affinity < math.inf:
            raise ValueError(f"affinity must be at least 0, got {self.affinity}")

    @property
    def n_retrospecting(self) -> int:
        """Returns the number of steps, the last ones, in which it unlearns."""
        return math.ceil(self.n_steps / 10) if self.retrospect else 0

    def hurried(self) -> StudentSettings:
        """Returns shorter settings for the audit; the student costs no privacy."""
        return replace(self, n_steps=2, batch_size=min(self.batch_size, 8))


@dataclass(frozen=True)
class LabelSettings:
    """The settings of labelled images: drawn once, and labelled by a released teacher.

    Args:
        n_images: number of images; unless given, four for each record, from 1,000 to 20,000, and
            fewer where images are so large that they would fill the memory.
        randomise: epsilon_0 of a randomised response that changes the labels before the student
            sees them. It protects one label of one made-up image, and no record: no part of the
            guarantee rests on it. Unless given, labels are as the teacher says.
    """

    n_images: int | None = None
    randomise: float | None = None

    def __post_init__(self) -> None:
        if self.n_images is not None and self.n_images < 2:
            raise ValueError(f"n_images must be at least 2, got {self.n_images}")
        if self.randomise is not None and not 0 < self.randomise < math.inf:
            raise ValueError(f"randomise must be a number above 0, got {self.randomise}")

    def resolved(self, n_records: int, shape: tuple[int, int, int]) -> LabelSettings:
        """Returns these settings with nothing left open, for public numbers of the records."""
        if self.n_images is not None:
            return self
        n = min(max(4 * n_records, FEWEST_IMAGES), MOST_IMAGES, MOST_PIXELS // math.prod(shape))
        return replace(self, n_images=max(n, 2))

    def hurried(self) -> LabelSettings:
        """Returns shorter settings for the audit; labels of drawn images cost no privacy."""
        return replace(self, n_images=HURRIED_IMAGES)


@dataclass(frozen=True)
class PupilSettings:
    """The settings of a student that learns from a fixed set of labelled images.

    Args:
        n_steps: training steps.
        batch_size: images per step.
        learning_rate: learning rate (Adam) of the first step; it falls to zero along half a cosine.
        width: channels of its first block, a multiple of 8.
        mixing: whether a part of each image is replaced by that of another one, with labels in
            proportion (cut-mix): a student then learns fewer wrong labels by heart.
    """

    n_steps: int = 500
    batch_size: int = 128
    learning_rate: float = 2e-3
    width: int = 32
    mixing: bool = True

    def __post_init__(self) -> None:
        self.student  # noqa: B018  what a student refuses is refused here

    @property
    def student(self) -> StudentSettings:
        """Returns the numbers that every student has."""
        return StudentSettings(
            self.n_steps, self.batch_size, self.learning_rate, self.width, mixing=self.mixing
        )

    def hurried(self) -> PupilSettings:
        """Returns shorter settings for the audit; the student costs no privacy."""
        return replace(self, n_steps=2, batch_size=min(self.batch_size, 8))
