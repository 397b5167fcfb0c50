"""Train on synthetic, test on real, group by group: whether a classifier treats groups alike.

A classifier learns the targets of the images, as ill and well, and never sees whose group an image
is of. On real images its answers are compared between groups. The recipe is that of
`dpgen.evaluation.utility`.

Reference: Hardt, Price, Srebro (2016), "Equality of Opportunity in Supervised Learning", arXiv
1610.02413, for equalised odds, and for demographic parity, which it discusses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from dpgen.evaluation.metrics import Estimate, estimate
from dpgen.evaluation.utility import UtilityProtocol, logits_of, train_classifier
from dpgen.images.fair_classes import FairClasses, parity_gap
from dpgen.images.images import Images

PARITY, ODDS, RIGHT = "parity gap", "equalised-odds gap", "target accuracy"


@dataclass(frozen=True)
class Fairness:
    """What one classifier of targets answered on real images.

    Args:
        table: number of images by group, by target, and by the target that they were taken for.
        seed: of the classifier.
    """

    table: tuple[tuple[tuple[int, ...], ...], ...]
    seed: int

    @property
    def parity_gap(self) -> float | None:
        """Returns the demographic parity difference: the largest difference between two groups in
        the share of images that are taken for one target, in [0, 1]; None where a group has no
        image.
        """
        return parity_gap([[sum(column) for column in zip(*group, strict=True)]
                           for group in self.table])  # fmt: skip

    @property
    def odds_gap(self) -> float | None:
        """Returns the equalised odds difference: the largest difference between two groups in the
        share of images *of one target* that are taken for one target, in [0, 1]. Groups without an
        image of a target are not compared at it; None where no two groups can be.
        """
        gaps = []
        for k in range(len(self.table[0])):
            rows = [group[k] for group in self.table if sum(group[k])]
            if len(rows) > 1:
                gaps.append(parity_gap(rows))
        return max((gap for gap in gaps if gap is not None), default=None)

    @property
    def accuracies(self) -> tuple[float | None, ...]:
        """Returns the share of each group's images that are taken for what they are; None for a
        group without images.
        """
        right = (sum(row[k] for k, row in enumerate(group)) for group in self.table)
        sizes = (sum(map(sum, group)) for group in self.table)
        return tuple(n / m if m else None for n, m in zip(right, sizes, strict=True))

    @property
    def accuracy(self) -> float:
        """Returns the share of all images that are taken for what they are."""
        right = sum(row[k] for group in self.table for k, row in enumerate(group))
        return right / sum(n for group in self.table for row in group for n in row)

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON values."""
        return {
            "seed": self.seed, "parity_gap": self.parity_gap, "odds_gap": self.odds_gap,
            "accuracy": self.accuracy, "accuracies": self.accuracies, "table": self.table,
        }  # fmt: skip


@dataclass(frozen=True)
class FairnessScores:
    """Of classifiers of several sets on the same real images.

    Args:
        fair: target and group of each class.
        n_images: real images by group and target.
        columns: by set, what was measured by network, a result a seed.
    """

    fair: FairClasses
    n_images: tuple[tuple[int, ...], ...]
    columns: Mapping[str, Mapping[str, tuple[Fairness, ...]]]

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON values, those of real images under the name ""."""
        return {
            "targets": self.fair.target_names,
            "groups": self.fair.group_names,
            "n_images": self.n_images,
            "parity_gap_of_reference": parity_gap(self.n_images),
            "columns": {
                name: {network: [one.to_dict() for one in found] for network, found in row.items()}
                for name, row in self.columns.items()
            },
        }

    def rows(self) -> Iterator[list[str]]:
        """Yields rows of a table, a column a set: title, which direction is better, cells."""
        networks = next(iter(self.columns.values()), {})
        for network in networks:
            found = [row[network] for row in self.columns.values()]
            for title, name in ((PARITY, "parity_gap"), (ODDS, "odds_gap")):
                values = [estimated([getattr(one, name) for one in each]) for each in found]
                yield [f"{title}, {network}", "lower", *(_text(one) for one in values)]
            values = [estimated([one.accuracy for one in each]) for each in found]
            yield [f"{RIGHT}, {network}", "higher", *(_percent(one) for one in values)]
            for k, group in enumerate(self.fair.group_names):
                values = [estimated([one.accuracies[k] for one in each]) for each in found]
                yield [f"  in group {group}", "higher", *(_percent(one) for one in values)]

    def words(self) -> str:
        """Says what the rows mean and how certain they are."""
        by_group = list(zip(self.fair.group_names, self.n_images, strict=True))
        sizes = ", ".join(f"{sum(row):,} of {group}" for group, row in by_group)
        told = [
            f"classifiers of the targets {', '.join(self.fair.target_names)} by the recipe of "
            f"Accuracy; real images by group: {sizes}. `{PARITY}` is the largest difference "
            f"between two groups in the share that is taken for one target, `{ODDS}` the same "
            "among images of one target (Hardt et al. 2016)."
        ]
        empty = [
            f"{target} in {group}"
            for group, row in by_group
            for target, n in zip(self.fair.target_names, row, strict=True) if not n
        ]  # fmt: skip
        if empty:
            told.append(f"Not compared, for want of real images: {', '.join(empty)}.")
        if (own := parity_gap(self.n_images)) is not None:
            told.append(
                f"The real images' own labels have a parity gap of {own:.3f}, and so has a "
                "classifier without errors."
            )
        parity = by_chance([sum(row) for _, row in by_group])
        odds = max(by_chance(column) or 0.0 for column in zip(*self.n_images, strict=True))
        told.append(
            "Chance alone makes differences between so many real images, with a standard error of "
            f"up to {parity or 0.0:.3f} for the first gap and {odds:.3f} for the second; the "
            "largest of several differences is biased upwards."
        )
        return " ".join(told)


def fairness_scores(
    sets: Mapping[str, Images],
    reference: Images,
    fair: FairClasses,
    *,
    networks: Sequence[str],
    seeds: Sequence[int],
    n_records: int | None = None,
    device: torch.device | str = "cpu",
    show: bool = False,
) -> FairnessScores:
    """Trains classifiers of targets on each set and compares groups of real images.

    Guarantees: as `train_classifier`.

    Args:
        sets: images to learn from, by name; labels are positions in ``fair.classes``.
        reference: real images of the same shape and classes.
        fair: target and group of each class, in label order.
        networks: keys of `utility.NETWORKS`.
        seeds: of the classifiers, one of each network for each.
        n_records: chooses the recipe, as for `UtilityProtocol.of`.
        device: where classifiers are trained and tested.
        show: progress bars.
    """
    targets = _positions(fair.target_names, [t for t, _ in fair.classes.values()])
    groups = _positions(fair.group_names, [g for _, g in fair.classes.values()])
    truth, group = targets[reference.labels], groups[reference.labels]
    n_targets, n_groups = len(fair.target_names), len(fair.group_names)
    total, n_trained = len(sets) * len(networks) * len(seeds), 0
    columns: dict[str, dict[str, tuple[Fairness, ...]]] = {name: {} for name in sets}
    for (name, images), network, seed in product(sets.items(), networks, seeds):
        n_trained += 1
        module = train_classifier(
            Images(images.pixels, targets[images.labels]), n_targets, seed=seed,
            protocol=UtilityProtocol.of(network, n_records), device=device, show=show,
            label=f"classifier of targets {n_trained} of {total}, {network}",
        )  # fmt: skip
        taken = logits_of(module.to(device), reference).argmax(1)
        places = (group * n_targets + truth) * n_targets + taken
        counts = torch.bincount(places, minlength=n_groups * n_targets**2)
        table = counts.reshape(n_groups, n_targets, n_targets).tolist()
        one = Fairness(tuple(tuple(map(tuple, rows)) for rows in table), seed)
        columns[name][network] = (*columns[name].get(network, ()), one)
    found = torch.bincount(group * n_targets + truth, minlength=n_groups * n_targets)
    n_images = tuple(map(tuple, found.reshape(n_groups, n_targets).tolist()))
    return FairnessScores(fair, n_images, columns)


def by_chance(sizes: Sequence[int]) -> float | None:
    """Returns the largest standard error that the difference of two shares can have, of images of
    two groups of these sizes; None where fewer than two have images.

    >>> by_chance([50, 50])
    0.1
    """
    known = sorted(n for n in sizes if n)[:2]
    return 0.5 * sqrt(sum(1 / n for n in known)) if len(known) == 2 else None


def estimated(values: Sequence[float | None]) -> Estimate | None:
    """Computes mean and standard error over seeds; None where a value is not known."""
    known = [value for value in values if value is not None]
    return estimate(known) if len(known) == len(values) else None


def _positions(names: Sequence[str], of_classes: Sequence[str]) -> Tensor:
    return torch.tensor([names.index(name) for name in of_classes])


def _text(found: Estimate | None) -> str:
    if found is None:
        return "-"
    return f"{found.mean:.3f}" + ("" if found.error is None else f" ± {found.error:.3f}")


def _percent(found: Estimate | None) -> str:
    if found is None:
        return "-"
    error = "" if found.error is None else f" ± {100 * found.error:.1f}"
    return f"{100 * found.mean:.1f}{error} %"
