"""The settings of the distillation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samplers import Explicit

LABEL = "student"  # name of the saved state of every training of a student
BOOT = "boot"
# Training steps by default. A student of one step by BOOT has more to learn than one of four, which
# begins as the teacher and stays near it; assets/boot.md has what more steps give.
N_ITERATIONS, N_BOOT_ITERATIONS = 150, 500


@dataclass(frozen=True)
class Distillation:
    """The settings of the student.

    Args:
        n_steps: network evaluations per image of the student: 1, 2, 4 or 8.
        n_iterations: training steps; unless given, 150, and 500 where ``pairing`` is "boot".
        batch_size: images per step.
        learning_rate: learning rate of student and discriminator (Adam).
        adversarial_weight: weight of the adversarial loss (lambda), at least 0; 0 leaves the
            discriminator out.
        pool_size: number of teacher-made images to learn from.
        ema_decay: decay of the student's averaged weights.
        sigma_min: lowest of the student's noise levels.
        sigma_max: highest of the student's noise levels.
        teacher_steps: steps of the teacher's path per step of the student.
        pairing: "fresh", with noise drawn anew at every step, "paired", with the noise that the
            teacher made the image from (see `dpgen.training.distillation`), or "boot", one step
            that is learned along the teacher's path without its images, by n_iterations,
            batch_size, learning_rate, ema_decay, sigma_min and sigma_max alone (see
            `dpgen.training.bootstrapping`).
    """

    n_steps: int = 4
    n_iterations: int | None = None
    batch_size: int = 128
    learning_rate: float = 2e-4
    adversarial_weight: float = 0.1
    pool_size: int = 4000
    ema_decay: float = 0.99
    sigma_min: float = 0.2
    sigma_max: float = 10.0
    teacher_steps: int = 3
    pairing: str = "fresh"

    def __post_init__(self) -> None:
        if self.n_steps not in (1, 2, 4, 8):
            raise ValueError(f"n_steps of the student must be 1, 2, 4 or 8, got {self.n_steps}")
        if self.pairing not in ("paired", "fresh", BOOT):
            raise ValueError(f"pairing must be paired, fresh or boot, got {self.pairing!r}")
        if self.pairing == BOOT and self.n_steps != 1:
            raise ValueError(
                f"pairing boot makes a student of one step, got n_steps {self.n_steps}: set "
                "n_steps to 1"
            )
        if self.iterations < 1:
            raise ValueError(f"n_iterations must be at least 1, got {self.n_iterations}")
        for name in ("batch_size", "pool_size", "teacher_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be greater than 0, got {self.learning_rate}")
        if not self.adversarial_weight >= 0:
            raise ValueError(
                f"adversarial_weight must be at least 0, got {self.adversarial_weight}"
            )
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")
        if not self._surely_descends():
            self.levels  # noqa: B018  a ladder that cannot be built must not be configured

    def _surely_descends(self) -> bool:
        """Returns whether it is certain, without building the levels (which loads torch), that they
        can be built.

        For such ends the seventh roots of the levels differ by more than 1e-5 of their size, far
        more than rounding, and no level is near the limits of float64.
        """
        return 1e-30 <= self.sigma_min and 1.001 * self.sigma_min <= self.sigma_max <= 1e30

    @property
    def iterations(self) -> int:
        """Returns the number of training steps, also where it is left open."""
        usual = N_BOOT_ITERATIONS if self.pairing == BOOT else N_ITERATIONS
        return usual if self.n_iterations is None else self.n_iterations

    def resolved(self) -> Distillation:
        """Returns these settings with nothing left open."""
        return replace(self, n_iterations=self.iterations)

    def hurried(self) -> Distillation:
        """Returns shorter settings for the audit; the distillation costs no privacy."""
        return replace(self, n_iterations=2, batch_size=4, pool_size=8)

    @property
    def evaluations(self) -> int:
        """Returns about how many evaluations of the network for one image the training costs."""
        n_images = self.iterations * self.batch_size
        if self.pairing == BOOT:
            # The teacher at two levels, the student at three, at two of them with a backward pass,
            # which costs as much as two forward ones.
            return 9 * n_images
        # About three forward passes of the student and two of the discriminator.
        return 5 * n_images + self.pool_size * self.path.n_levels

    @property
    def levels(self) -> Explicit:
        """Returns the student's ladder, for training and for sampling."""
        from samplers import Explicit, Karras

        if self.n_steps == 1:
            return Explicit((self.sigma_max, 0.0))
        ladder = Karras(self.n_steps, sigma_min=self.sigma_min, sigma_max=self.sigma_max)()
        return Explicit(tuple(ladder.tolist()))

    @property
    def path(self) -> Explicit:
        """Returns the teacher's ladder: every interval of the student's, divided geometrically."""
        from samplers import Explicit

        rungs = list(self.levels.sigmas[:-1])
        fine: list[float] = []
        # The last interval ends at 0, which no geometric division reaches: end at a fifth of it.
        for high, low in pairwise([*rungs, rungs[-1] / 5 if self.n_steps > 1 else 0.04]):
            cuts = self.teacher_steps * (1 if self.n_steps > 1 else 4)
            fine += [high * (low / high) ** (k / cuts) for k in range(cuts)]
        return Explicit((*fine, 0.0))
