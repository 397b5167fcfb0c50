"""Gaps between groups: exact of tables, and of classifiers whose answers are known."""

from __future__ import annotations

import pytest
import torch

from dpgen.evaluation import utility
from dpgen.evaluation.fairness import Fairness, FairnessScores, by_chance, fairness_scores
from dpgen.images.fair_classes import FairClasses
from dpgen.images.images import Images
from tests.images.test_fair_classes import CLASSES

FAIR = FairClasses(CLASSES)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(utility.RECIPES, "logistic", {"n_steps": 60, "learning_rate": 0.05})


def test_gaps_of_a_table_counted_by_hand() -> None:
    # Of f 10 ill, of whom 9 are found, and 30 well, of whom 6 are called ill; of m 20 and 20.
    one = Fairness((((9, 1), (6, 24)), ((10, 10), (2, 18))), seed=0)
    assert one.parity_gap == pytest.approx(15 / 40 - 12 / 40)
    assert one.odds_gap == pytest.approx(9 / 10 - 10 / 20)
    assert one.accuracies == (33 / 40, 28 / 40) and one.accuracy == 61 / 80
    # Fair by parity alone: as many are called ill in both groups, but other people.
    swapped = Fairness((((5, 0), (0, 5)), ((0, 5), (5, 0))), seed=0)
    assert (swapped.parity_gap, swapped.odds_gap) == (0.0, 1.0)


def test_three_targets_and_groups_are_compared_in_pairs() -> None:
    rows = ((4, 0, 0), (0, 4, 0), (0, 0, 4))
    other = ((4, 0, 0), (0, 4, 0), (1, 1, 2))
    one = Fairness((rows, other, rows), seed=0)
    assert one.odds_gap == 0.5 and one.parity_gap == pytest.approx(2 / 12)


def test_cells_without_real_images_are_left_out_and_named() -> None:
    one = Fairness((((0, 0), (3, 1)), ((2, 2), (4, 0))), seed=0)
    assert one.odds_gap == 0.25  # of well alone
    assert one.parity_gap == pytest.approx(6 / 8 - 3 / 4)
    empty = Fairness((((0, 0), (0, 0)), ((2, 2), (4, 0))), seed=0)
    assert (empty.parity_gap, empty.odds_gap, empty.accuracies) == (None, None, (None, 0.25))
    scores = FairnessScores(FAIR, ((0, 0), (4, 4)), {"set": {"cnn": (empty,)}})
    assert "for want of real images: ill in f, well in f" in scores.words()
    assert [row[-1] for row in scores.rows()] == ["-", "-", "25.0 %", "-", "25.0 %"]


def test_several_seeds_give_mean_and_standard_error_and_sizes_a_bound() -> None:
    one = Fairness((((9, 1), (0, 10)), ((5, 5), (0, 10))), seed=0)
    two = Fairness((((7, 3), (0, 10)), ((5, 5), (0, 10))), seed=1)
    scores = FairnessScores(FAIR, ((10, 10), (10, 10)), {"set": {"cnn": (one, two)}})
    rows = {row[0]: row[1:] for row in scores.rows()}
    assert rows["parity gap, cnn"] == ["lower", "0.150 ± 0.050"]
    assert rows["equalised-odds gap, cnn"] == ["lower", "0.300 ± 0.100"]
    assert rows["  in group f"] == ["higher", "90.0 ± 5.0 %"]
    assert by_chance([10, 40, 10]) == pytest.approx(0.5 * 0.2**0.5) and by_chance([9, 0]) is None
    assert "up to 0.158 for the first gap and 0.224 for the second" in scores.words()


def pictures(n: dict[str, int], *, clue: float) -> Images:
    """Images with two pixels: a faint sign of the target, and a plain one of the group."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.cat([torch.full((count,), list(CLASSES).index(name))
                        for name, count in n.items()])  # fmt: skip
    pixels = torch.zeros(len(labels), 1, 1, 2)
    ill = torch.tensor([name.startswith("ill") for name in CLASSES])[labels]
    f = torch.tensor([name.endswith("f") for name in CLASSES])[labels]
    noise = 0.3 * torch.randn(len(labels), generator=generator)
    pixels[:, 0, 0, 0] = (torch.where(ill, clue, -clue) + noise).clamp(-1, 1)
    pixels[:, 0, 0, 1] = torch.where(f, 0.8, -0.8)
    return Images(pixels, labels)


def test_a_classifier_of_skewed_labels_takes_the_group_for_a_sign_and_one_of_fair_ones_does_not(
) -> None:  # fmt: skip
    skewed = pictures({"ill_f": 180, "ill_m": 20, "well_f": 20, "well_m": 180}, clue=0.2)
    equal = pictures(dict.fromkeys(CLASSES, 100), clue=0.2)
    real = pictures(dict.fromkeys(CLASSES, 200), clue=0.2)
    found = fairness_scores(
        {"skewed": skewed, "fair": equal}, real, FAIR, networks=["logistic"], seeds=[0]
    )
    assert found.n_images == ((200, 200), (200, 200))
    one, other = (found.columns[name]["logistic"][0] for name in ("skewed", "fair"))
    assert one.parity_gap is not None and other.parity_gap is not None
    assert one.odds_gap is not None and other.odds_gap is not None
    assert one.parity_gap > 0.5 and one.odds_gap > 0.5
    assert other.parity_gap < 0.15 and other.odds_gap < 0.2
    assert other.accuracy > one.accuracy
    assert sum(sum(map(sum, group)) for group in one.table) == 800
    told = found.to_dict()
    assert told["columns"]["fair"]["logistic"][0]["parity_gap"] == other.parity_gap
    assert told["parity_gap_of_reference"] == 0


def test_groups_and_targets_are_those_of_the_classes_in_label_order() -> None:
    """A classifier without errors makes the table of the real images, whatever the file's order."""
    n = {"ill_f": 40, "ill_m": 30, "well_f": 20, "well_m": 10}
    images = pictures(n, clue=0.9)
    fair = FairClasses(dict(reversed(CLASSES.items()))).of(list(CLASSES))
    found = fairness_scores({"set": images}, images, fair, networks=["logistic"], seeds=[0])
    (one,) = found.columns["set"]["logistic"]
    assert one.table == (((40, 0), (0, 20)), ((30, 0), (0, 10)))
    assert one.parity_gap == pytest.approx(30 / 40 - 40 / 60) and one.odds_gap == 0
