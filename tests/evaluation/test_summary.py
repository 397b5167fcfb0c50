"""Scores as people read them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dpgen.evaluation.classifiers import ClassifierScores
from dpgen.evaluation.evaluation import Evaluation
from dpgen.evaluation.fidelity import Fidelity
from dpgen.evaluation.fidelity_protocol import FidelityProtocol
from dpgen.evaluation.scores import RealScores, Scores, SetScores
from dpgen.evaluation.summary import summary
from dpgen.evaluation.utility import Utility, UtilityProtocol


def measured(n: int, fid: float, accuracy: float, seeds: int = 1) -> Evaluation:
    close = Fidelity(
        {"fid": fid}, {}, 128, "classifier", "ab" * 32,
        {"network": "cnn", "n_images": 1437, "n_steps": 1000, "batch_size": 128},
        FidelityProtocol().resolved(n, 360), private=False,
    )  # fmt: skip
    trained = tuple(
        Utility(accuracy + 0.01 * k, (0.9, 0.5), ((9, 1), (5, 5)), n, 360, k,
                UtilityProtocol.of("cnn"))
        for k in range(seeds)
    )  # fmt: skip
    return Evaluation(n, {"cnn": trained}, close, {})


def scores(*paths: str, private: bool = False, seeds: int = 1) -> Scores:
    sets = {path: SetScores(measured(1000, 12.345, 0.8, seeds), None, False) for path in paths}
    real = RealScores(measured(1000, 1.5, 0.95, seeds), "train", 1437)
    return Scores("digits", "test", 360, private, ("zero", "one"), sets, real)


def words(found: Scores) -> str:
    return " ".join(summary(found).split())


def test_a_row_says_what_was_measured_what_is_better_and_what_real_images_give() -> None:
    lines = summary(scores("out/set")).splitlines()
    assert lines[0] == "Against 360 real images (digits, test)"
    assert lines[2].split("  ")[0] == "metric" and lines[2].endswith("set  real images")
    rows = {line[:15].strip(): line[15:].split() for line in lines[3:7]}
    assert rows["images"] == ["1,000", "1,000"]
    assert rows["classifier FID"] == ["lower", "12.35", "1.50"]
    assert rows["accuracy, cnn"] == ["higher", "80.0", "%", "95.0", "%"]
    assert rows["weakest class"] == ["one", "(50", "%)", "one", "(50", "%)"]
    assert max(map(len, lines)) <= 92


def test_folders_stand_in_the_head_only_where_names_are_not_enough() -> None:
    head = summary(scores("a/set", "b/other")).splitlines()[2].split()
    assert head[2:4] == ["set", "other"]
    head = summary(scores("a/set", "b/set")).splitlines()[2].split()
    assert head[2:4] == ["a/set", "b/set"]
    head = summary(scores("a/real images")).splitlines()[2]
    assert "a/real images" in head


def test_a_private_classifier_has_a_column_of_its_own_numbers() -> None:
    judged = {
        "student": ClassifierScores(0.694, 0.681, (0.7, 0.662), 0.0321, 0.9),
        "teacher": ClassifierScores(0.71, 0.7, (0.72, 0.68), 0.1),
    }
    lines = summary(replace(scores("set"), classifiers=judged)).splitlines()
    assert lines[2].endswith("real images  student  teacher")
    rows = {line[:21].strip(): line[21:].split() for line in lines[3:10]}
    assert rows["private classifier"] == ["higher", "-", "-", "69.4", "%", "71.0", "%"]
    assert rows["its calibration error"] == ["lower", "-", "-", "0.032", "0.100"]
    assert rows["agrees with its teach"][-3:] == ["90.0", "%", "-"]
    assert all(line.endswith("-  " + " " * 6 + "-") for line in lines[3:7])
    told = words(replace(scores("set"), classifiers=judged))
    assert "right in 69.4 % of the real images, in 68.1 % as a mean over classes" in told
    assert "least often in one (66 %)" in told and "in 15 bins of confidence" in told
    assert "trained on images of the run's generator alone" in told
    assert "trained on no synthetic image" in told
    assert "private classifier" not in words(scores("set"))


def test_classifiers_are_summarised_without_a_set() -> None:
    judged = {"run": ClassifierScores(0.694, 0.681, (0.7, None), 0.0321)}
    found = replace(scores("set"), sets={}, real="none", classifiers=judged)
    lines = summary(found).splitlines()
    assert [line.split()[-1] for line in lines[2:5]] == ["run", "%", "0.032"]
    assert "Real images" not in summary(found) and "agrees" not in summary(found)


def test_the_protocol_is_told_in_words() -> None:
    told = words(scores("set"))
    assert "1,000 synthetic images against 360 real ones of the test split" in told
    assert "classifier, SHA-256 abababababababab..., 128 numbers an image" in told
    assert "1,000 of the 1,437 real images of the train split" in told
    assert "1,000 steps of 128 images, AdamW from 0.002, no augmentation; seed 0." in told
    assert "mean and standard error of seeds 0 to 2" in words(scores("set", seeds=3))
    assert "as --no-real was given" in words(replace(scores("set"), real="--no-real was given"))
    assert "Metrics: FID, lower is better (Frechet distance between the features of" in told
    assert "cnn, higher is better" not in told  # a meaning of features is none of accuracy
    assert "Protocol(" not in told
    assert "(not 1,000" not in told


def test_a_shorter_recipe_for_few_real_images_is_told() -> None:
    found = scores("set")
    one = found.sets["set"]
    few = tuple(
        replace(u, protocol=UtilityProtocol.of("cnn", 900))
        for u in one.evaluation.utilities["cnn"]
    )
    evaluation = replace(one.evaluation, utilities={"cnn": few})
    told = words(replace(found, sets={"set": replace(one, evaluation=evaluation)}))
    assert "250 steps of 128 images (not 1,000, as there are fewer than 1,250 real ones" in told


@pytest.mark.parametrize("private", [False, True])
def test_every_summary_says_that_nothing_was_charged_and_whose_eyes_it_is_for(
    private: bool,
) -> None:
    told = words(scores("set", private=private))
    assert "Privacy: not charged" in told
    assert ("for the owner's eyes only" in told) is private
    assert ("do not publish them" in told) is private
    assert ("cost no privacy" in told) is not private
