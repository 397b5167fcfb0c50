"""Counts of images by class in which target and group are independent.

They are a function of class names, of weights that whoever draws has chosen, and of shares that the
run released: post-processing, which costs no privacy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Self

from dpgen.arguments import speaks_python
from dpgen.generator.labels import RELEASED, Labels, is_uniform, required
from dpgen.images.fair_classes import FairClasses, exact, read_fair

Fair = FairClasses | str | Path  # or a file of them


@dataclass(frozen=True)
class FairLabels:
    """How many images of each class are drawn, so that every group has the same shares of targets.

    Of ``n`` images each group gets its share, and of these each target its share, each time as the
    nearest whole numbers that add up (largest remainder; of equal remainders the first is rounded
    up). So the shares of targets are exactly equal in groups of equal size, and wherever no number
    had to be rounded; in two other groups of n and m images they differ by less than 1/n + 1/m.

    Args:
        fair: target and group of each class, in label order. Where it gives no weights of targets,
            or of groups, they follow ``shares``, or are equal without these.
        shares: released shares by class; they also divide a pair of target and group among several
            classes, which are equally many without them. None: nothing is taken from the run.

    Raises:
        ValueError: a target or a group has a released share of 0.
    """

    fair: FairClasses
    shares: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        for axis, weights in (("targets", self.targets), ("groups", self.groups)):
            for name, weight in weights.items():
                if not weight > 0:
                    raise ValueError(
                        f"--fair: the run released a share of 0 for all classes of {name!r:.60}: "
                        f"give weights of {axis} with the classes"
                    )

    @classmethod
    @speaks_python
    def asked(
        cls, fair: Fair, labels: Labels | None, class_names: Sequence[str],
        shares: Mapping[str, float] | None,
    ) -> Self:  # fmt: skip
        """Makes the counts that were asked for.

        Args:
            fair: the classes, or a file of them.
            labels: ``"released"`` to follow the shares that the run released; None or
                ``"uniform"`` for equal ones.
            class_names: of the run, in label order.
            shares: released shares by class; None: the run released none.

        Raises:
            ValueError: other classes than the run's, or labels that count the classes themselves.
        """
        known = fair if isinstance(fair, FairClasses) else read_fair(Path(fair))
        if labels is None or is_uniform(labels):
            return cls(known.of(class_names))
        if not isinstance(labels, str) or labels != RELEASED:
            raise ValueError(
                "--fair counts the classes itself: drop --labels, or follow the run's counts by "
                "--labels released; weights of targets and groups are given with the classes"
            )
        if shares is None:
            raise ValueError(
                "--fair: the run holds no released class counts to follow: drop --labels released, "
                "and give weights of targets and groups with the classes where they are not to be "
                "equal"
            )
        return cls(known.of(class_names), shares)

    @property
    def targets(self) -> dict[str, float]:
        """Returns the weight of each target."""
        return self._weights(self.fair.targets, self.fair.target_names, 0)

    @property
    def groups(self) -> dict[str, float]:
        """Returns the weight of each group."""
        return self._weights(self.fair.groups, self.fair.group_names, 1)

    def _weights(
        self, given: Mapping[str, float] | None, names: Sequence[str], place: int
    ) -> dict[str, float]:
        if given is not None:
            return {name: given[name] for name in names}
        if self.shares is None:
            return dict.fromkeys(names, 1)
        found = dict.fromkeys(names, Fraction())
        for name, pair in self.fair.classes.items():
            found[pair[place]] += exact(self.shares[name])
        return {name: float(weight) for name, weight in found.items()}

    def counts(self, n: int | None) -> dict[str, int]:
        """Returns how many of ``n`` images each class gets. Raises ValueError where a pair of
        target and group would get none.
        """
        n, found = required(n), dict.fromkeys(self.fair.classes, 0)
        in_groups = shared_out(n, list(self.groups.values()))
        for group, n_group in zip(self.groups, in_groups, strict=True):
            of_targets = shared_out(n_group, list(self.targets.values()))
            for target, n_cell in zip(self.targets, of_targets, strict=True):
                if n_cell < 1:
                    raise ValueError(
                        f"n = {n} gives no image to target {target!r:.60} in group {group!r:.60}: "
                        "draw more images"
                    )
                members = self.fair.cells[target, group]
                within = [1.0 if self.shares is None else self.shares[one] for one in members]
                if not any(within):
                    within = [1.0] * len(members)
                found |= dict(zip(members, shared_out(n_cell, within), strict=True))
        return found


def shared_out(n: int, weights: Sequence[float]) -> list[int]:
    """Divides ``n`` in proportion to ``weights``: the nearest whole numbers that add up, by the
    largest remainders, in exact arithmetic.

    >>> shared_out(10, [1, 1, 1])
    [4, 3, 3]
    """
    total = sum(map(exact, weights))
    wanted = [n * exact(weight) / total for weight in weights]
    found = [int(one) for one in wanted]  # rounded down: none is negative
    first = sorted(range(len(found)), key=lambda k: found[k] - wanted[k])  # stable
    for k in first[: n - sum(found)]:
        found[k] += 1
    return found
