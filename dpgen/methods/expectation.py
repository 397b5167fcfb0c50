"""Says what a run can be expected to learn, from its noise and the number of records of a class.

The weight of a class is that of all its records over that of the noise. A release of noise
multiplier z sums r n records, each at most the bound C long, under noise of standard deviation z C
in every number; of d numbers, as many as an image has, the noise is about sqrt(d) z C long. Of
releases together the squares add up:

    weight = n / (K sqrt(d)) sqrt(sum_releases (r / z)^2)

DP-SGD releases gradients instead, of more numbers: there the weight is a guide, as good as the
measurements of one and the other agree. Source of the levels: `assets/expectation.md`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from dpgen.images.facts import PublicFacts
from dpgen.privacy.accounting.events import leaves
from dpgen.privacy.plan import Plan

NOTHING, AVERAGES, SHAPES, DETAILS = "nothing", "averages", "shapes", "details"
FROM = {SHAPES: 5.0, DETAILS: 20.0}  # weights
_WORDS = {
    AVERAGES: "little more than the average brightness and colours of each class",
    SHAPES: "shapes that lie alike in all images of a class, blurred; the rest is mostly made up",
    DETAILS: "shapes of a class and how they vary, as far as the method can learn them",
}
DROWNED = (
    "the noise of every stage is greater than all records together can weigh, and nothing would be "
    "learned"
)
CURES = "with fewer classes, a greater epsilon or a smaller --size"


@dataclass(frozen=True)
class Expectation:
    """What a run can learn.

    Args:
        level: "nothing", "averages", "shapes" or "details".
        weight: of the records of a class over the noise on an image.
        records_for_more: records of a class with which the next level begins, about; None for the
            last level.
    """

    level: str
    weight: float
    records_for_more: int | None

    @property
    def text(self) -> str:
        """Says in a line what to expect, and in another what would give more."""
        if self.level == NOTHING:
            return f"{DROWNED}: take a greater epsilon or delta, or more records"
        told = f"expect {_WORDS[self.level]} (signal over noise {self.weight:.2g})"
        if self.records_for_more is None:
            return told
        following = SHAPES if self.level == AVERAGES else DETAILS
        more = f"{following} begin at about {self.records_for_more:,} records a class, or {CURES}"
        return f"{told}\n{more}"


def expected(plan: Plan, facts: PublicFacts) -> Expectation:
    """Returns what a run of this plan can learn; public numbers only.

    Nothing is learned where in every stage the noise on one number exceeds the sum of all records.
    """
    n, each = facts.n_records, facts.n_records / facts.n_classes
    found = [leaf for stage in plan.stages for leaf in leaves(stage.mechanism.event)]
    strengths = [leaf.rate * math.sqrt(leaf.steps) / leaf.noise_multiplier for leaf in found]
    weight = each * math.hypot(*strengths) / math.sqrt(math.prod(facts.shape))
    if found and all(n * strength < 1 for strength in strengths):
        return Expectation(NOTHING, weight, None)
    level = DETAILS if weight >= FROM[DETAILS] else SHAPES if weight >= FROM[SHAPES] else AVERAGES
    if level == DETAILS:
        return Expectation(level, weight, None)
    more = FROM[SHAPES if level == AVERAGES else DETAILS] / weight * each
    return Expectation(level, weight, int(float(f"{more:.1e}")))
