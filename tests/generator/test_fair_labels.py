"""Fair counts: target and group are independent, exactly where whole numbers allow it."""

from __future__ import annotations

from itertools import product

import pytest

from dpgen.generator.fair_labels import FairLabels, shared_out
from dpgen.images.fair_classes import FairClasses, parity_gap
from tests.images.test_fair_classes import CLASSES

SIX = {f"{t}{g}{k}": (t, g) for g in "fm" for t in "iw" for k in range(1 + (t == "w"))}


def cells(fair: FairClasses, counts: dict[str, int]) -> list[list[int]]:
    """Images by group (rows) and target."""
    found = [[0] * len(fair.target_names) for _ in fair.group_names]
    for name, (target, group) in fair.classes.items():
        place = fair.group_names.index(group), fair.target_names.index(target)
        found[place[0]][place[1]] += counts[name]
    return found


def test_counts_are_exactly_independent_wherever_nothing_is_to_be_rounded() -> None:
    fair = FairClasses(CLASSES, {"ill": 0.3, "well": 0.7}, {"f": 0.4, "m": 0.6})
    assert FairLabels(fair).counts(100) == {"ill_f": 12, "ill_m": 18, "well_f": 28, "well_m": 42}
    for n in (50, 100, 150, 1000):
        table = cells(fair, FairLabels(fair).counts(n))
        targets, groups = [sum(c) for c in zip(*table, strict=True)], [sum(r) for r in table]
        for g, t in product(range(2), range(2)):
            assert table[g][t] * n == targets[t] * groups[g]  # integers: no tolerance
    # In floating point 0.1 + 0.2 of 10 images, and three tenths, are not the same number.
    tenths = FairClasses(CLASSES, {"ill": 0.1, "well": 0.2}, {"f": 1, "m": 1})
    assert FairLabels(tenths).counts(6) == {"ill_f": 1, "ill_m": 1, "well_f": 2, "well_m": 2}


@pytest.mark.parametrize(
    ("targets", "groups"),
    [(None, None), ((3, 7), None), ((1, 2), (1, 5)), ((0.123, 0.877), (0.9, 0.1))],
)
def test_rounding_leaves_less_than_it_says_and_nothing_between_equal_groups(
    targets: tuple[float, float] | None, groups: tuple[float, float] | None
) -> None:
    fair = FairClasses(
        SIX, None if targets is None else dict(zip("iw", targets, strict=True)),
        None if groups is None else dict(zip("fm", groups, strict=True)),
    )  # fmt: skip
    labels = FairLabels(fair)
    shares = [weight / sum(labels.groups.values()) for weight in labels.groups.values()]
    for n in range(97, 160):
        counts = labels.counts(n)
        table = cells(fair, counts)
        (one, other), gap = [sum(row) for row in table], parity_gap(table)
        assert one + other == n and min(counts.values()) >= 0
        assert abs(one - n * shares[0]) < 1
        assert gap is not None and gap < 1 / one + 1 / other
        if one == other:
            assert gap == 0
        assert abs(counts["wf0"] - counts["wf1"]) <= 1  # several classes of one cell


def test_released_shares_give_the_marginals_and_not_the_joint() -> None:
    """In the run ill go with f; in the labels they do not, and are as many as before."""
    shares = {"ill_f": 0.4, "ill_m": 0.1, "well_f": 0.2, "well_m": 0.3}
    fair = FairClasses(CLASSES)
    assert FairLabels(fair, shares).counts(100) == {
        "ill_f": 30, "ill_m": 20, "well_f": 30, "well_m": 20,
    }  # fmt: skip
    given = FairClasses(CLASSES, groups={"f": 1, "m": 1})  # the file decides what it names
    assert FairLabels(given, shares).counts(100) == dict.fromkeys(CLASSES, 25)
    more = {"if0": 0.2, "wf0": 0.3, "wf1": 0.1, "im0": 0.2, "wm0": 0.0, "wm1": 0.2}
    counts = FairLabels(FairClasses(SIX), more).counts(1000)
    assert counts == {"if0": 240, "wf0": 270, "wf1": 90, "im0": 160, "wm0": 0, "wm1": 240}
    hidden = {"if0": 0.5, "wf0": 0.0, "wf1": 0.0, "im0": 0.0, "wm0": 0.1, "wm1": 0.4}
    counts = FairLabels(FairClasses(SIX), hidden).counts(1000)  # an empty cell: equally
    assert (counts["wf0"], counts["wf1"], counts["wm0"], counts["wm1"]) == (125, 125, 50, 200)


def test_what_cannot_be_drawn_fairly_is_refused_with_the_cure() -> None:
    fair = FairClasses(CLASSES)
    with pytest.raises(ValueError, match="n = 3 gives no image to target 'well' in group 'm': dra"):
        FairLabels(fair).counts(3)
    assert FairLabels(fair).counts(4) == dict.fromkeys(CLASSES, 1)
    with pytest.raises(ValueError, match="n must be given"):
        FairLabels(fair).counts(None)
    nobody = {"ill_f": 0.5, "ill_m": 0.0, "well_f": 0.5, "well_m": 0.0}
    with pytest.raises(ValueError, match="share of 0 for all classes of 'm': give weights"):
        FairLabels(fair, nobody)
    asked = (list(CLASSES), None)
    for labels in ({"ill_f": 3}, ["ill_f"], "balanced"):
        with pytest.raises(ValueError, match="counts the classes itself"):
            FairLabels.asked(fair, labels, *asked)
    with pytest.raises(ValueError, match="fair=: the run holds no .*: drop labels='released',"):
        FairLabels.asked(fair, "released", *asked)


def test_whole_numbers_are_the_nearest_that_add_up() -> None:
    assert shared_out(7, [1, 1]) == [4, 3] and shared_out(0, [1, 2]) == [0, 0]
    assert shared_out(10, [0.16, 0.16, 0.68]) == [2, 1, 7]
    assert shared_out(2, [0.3, 0.1]) == [2, 0]  # 1.5 and 0.5, which binary fractions are not
    assert shared_out(10**9, [0.1, 0.2]) == [333_333_333, 666_666_667]
