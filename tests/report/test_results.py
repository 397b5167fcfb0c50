from __future__ import annotations

import math
from typing import Any

import pytest

from dpgen.evaluation.metrics import Metric
from dpgen.report.results import Results

Values = dict[str, Any]
CNN, FID = Metric("accuracy_cnn"), Metric("classifier_fid")


def cells_of(results: Values, label: str, epsilon: float) -> list[Values]:
    return [c for c in results["cells"] if (c["label"], c["epsilon"]) == (label, epsilon)]


def accuracies(results: Values, label: str, epsilon: float, *values: float) -> None:
    for cell, value in zip(cells_of(results, label, epsilon), values, strict=True):
        cell["metrics"]["accuracy_cnn"] = value


def test_a_mean_is_over_the_finished_seeds_of_one_method_and_epsilon(results: Values) -> None:
    accuracies(results, "dpdm", 1.0, 0.7, 0.8, 0.3)
    found = Results.read(results).estimate(CNN, "dpdm", 1.0)
    assert found is not None and math.isclose(found.mean, 0.6)
    cells_of(results, "dpdm", 1.0)[2].update(status="failed", error="no memory")
    found = Results.read(results).estimate(CNN, "dpdm", 1.0)
    assert found is not None and found.values == (0.7, 0.8)
    assert found.error is not None and math.isclose(found.error, 0.05)


def test_methods_keep_their_order_and_epsilons_and_seeds_ascend(results: Values) -> None:
    results["cells"].reverse()
    results["epsilons"] = [10, 5, 1, 0.2]
    found = Results.read(results)
    assert list(found.methods) == ["dp-sad", "dpdm", "pge dpsgd", "pge sketch"]
    assert found.epsilons == (0.2, 1.0, 5.0, 10.0) and found.seeds == (0, 1, 2)
    assert [o.seed for o in found.done("dpdm", 5.0)] == [0, 1, 2]


def test_cells_that_are_to_come_are_missing(results: Values) -> None:
    results["cells"] = [c for c in results["cells"] if c["seed"] < 2 and c["epsilon"] < 10]
    found = Results.read(results)
    assert set(found.missing) == {
        (label, epsilon, seed)
        for label in found.methods
        for epsilon in (0.2, 1.0, 5.0, 10.0)
        for seed in range(3)
        if seed == 2 or epsilon == 10.0
    }


def test_without_a_plan_the_cells_say_what_there_is(results: Values) -> None:
    del results["epsilons"], results["seeds"]
    results["cells"] = results["cells"][:5]
    found = Results.read(results)
    assert found.epsilons == (0.2, 1.0) and found.seeds == (0,)
    assert len(found.missing) == 3


def test_a_metric_that_is_no_number_is_named_and_left_out(results: Values) -> None:
    accuracies(results, "dpdm", 1.0, 0.7, math.nan, 0.9)
    found = Results.read(results)
    assert found.done("dpdm", 1.0)[1].broken == ("accuracy_cnn",)
    mean = found.estimate(CNN, "dpdm", 1.0)
    assert mean is not None and mean.values == (0.7, 0.9)


def test_best_are_the_best_mean_and_whose_errors_reach_its_own(results: Values) -> None:
    accuracies(results, "dp-sad", 1.0, 0.89, 0.90, 0.91)  # error .00577
    accuracies(results, "dpdm", 1.0, 0.879, 0.889, 0.899)  # .011 below: within the two errors
    accuracies(results, "pge dpsgd", 1.0, 0.878, 0.888, 0.898)  # .012 below: not
    accuracies(results, "pge sketch", 1.0, 0.5, 0.5, 0.5)
    found = Results.read(results)
    assert found.best(CNN, 1.0) == ("dp-sad", "dpdm")
    assert found.winner(CNN, 1.0) == "dp-sad"
    assert found.best(Metric("unknown"), 1.0) == () and found.winner(Metric("x"), 1.0) is None


def test_a_lower_fid_wins(results: Values) -> None:
    for label, value in zip(("dp-sad", "dpdm", "pge dpsgd", "pge sketch"), (9, 7, 8, 7.5),
                            strict=True):  # fmt: skip
        for i, cell in enumerate(cells_of(results, label, 5.0)):
            cell["metrics"]["classifier_fid"] = value + 0.1 * i
    found = Results.read(results)
    assert found.winner(FID, 5.0) == "dpdm" and found.best(FID, 5.0) == ("dpdm",)


def test_a_fid_is_level_when_the_two_errors_meet(results: Values) -> None:
    means = {"dp-sad": 10.0, "dpdm": 11.1, "pge dpsgd": 11.2, "pge sketch": 30.0}
    for label, mean in means.items():
        for cell in cells_of(results, label, 5.0):
            cell["metrics"]["classifier_fid"] = mean + cell["seed"] - 1
    # Every error is .577: means 1.1 apart are level, 1.2 apart are not.
    assert Results.read(results).best(FID, 5.0) == ("dp-sad", "dpdm")


def test_nobody_wins_without_a_verified_guarantee(results: Values) -> None:
    accuracies(results, "dpdm", 1.0, 1.0, 1.0, 1.0)
    assert Results.read(results).winner(CNN, 1.0) == "dpdm"
    cells_of(results, "dpdm", 1.0)[1]["privacy"]["verified"] = False
    found = Results.read(results)
    assert found.winner(CNN, 1.0) != "dpdm" and "dpdm" not in found.best(CNN, 1.0)
    assert found.unverified("dpdm") and not found.unverified("dp-sad")


def test_verified_means_the_word_true_and_nothing_like_it(results: Values) -> None:
    cells_of(results, "dpdm", 1.0)[0]["privacy"]["verified"] = "true"
    cells_of(results, "dpdm", 1.0)[1]["privacy"] = None
    found = Results.read(results)
    assert [o.verified for o in found.done("dpdm", 1.0)] == [False, False, True]


def test_a_method_that_draws_from_anothers_teacher_says_so(results: Values) -> None:
    assert {o.shared for o in Results.read(results).done("dpdm", 1.0)} == {"dp-sad"}
    cells_of(results, "pge dpsgd", 1.0)[0]["shared"] = "pge sketch"
    found = Results.read(results).done("pge dpsgd", 1.0)
    assert [o.shared for o in found] == ["pge sketch", None, None]


def other_schema(r: Values) -> None:
    r["schema"] = "dpgen-scores/1"


def without_cells(r: Values) -> None:
    del r["cells"]


def cells_a_word(r: Values) -> None:
    r["cells"] = "none"


def data_a_word(r: Values) -> None:
    r["data"] = "digits"


def label_twice(r: Values) -> None:
    r["methods"].append(dict(r["methods"][0]))


def unknown_label(r: Values) -> None:
    r["cells"][3]["label"] = "gan"


def cell_twice(r: Values) -> None:
    r["cells"].append(dict(r["cells"][0]))


def epsilon_zero(r: Values) -> None:
    r["cells"][1]["epsilon"] = 0.0


def epsilon_a_word(r: Values) -> None:
    r["cells"][1]["epsilon"] = "1"


def seed_a_flag(r: Values) -> None:
    r["cells"][1]["seed"] = True


def status_running(r: Values) -> None:
    r["cells"][1]["status"] = "running"


def metric_a_word(r: Values) -> None:
    r["cells"][1]["metrics"]["recall"] = "0.5"


def certified_infinity(r: Values) -> None:
    r["cells"][1]["privacy"]["epsilon"] = math.inf


def certified_without_delta(r: Values) -> None:
    del r["cells"][1]["privacy"]["delta"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (other_schema, "schema must be 'dpgen-benchmark/1', got 'dpgen-scores/1'"),
        (without_cells, "cells must be a list, got None"),
        (cells_a_word, "cells must be a list, got 'none'"),
        (data_a_word, "data must be a table, got 'digits'"),
        (label_twice, "methods must have one label each"),
        (unknown_label, r"cells\[3\].label must be of .*, got 'gan'"),
        (cell_twice, r"cells\[48\] is there twice: \('dp-sad', 0.2, 0\)"),
        (epsilon_zero, r"cells\[1\].epsilon must be a positive number, got 0.0"),
        (epsilon_a_word, r"cells\[1\].epsilon must be a positive number, got '1'"),
        (seed_a_flag, r"cells\[1\].seed must be a whole number, got True"),
        (status_running, r"cells\[1\].status must be 'done' or 'failed', got 'running'"),
        (metric_a_word, r"cells\[1\].metrics.recall must be a number or null, got '0.5'"),
        (certified_infinity, r"cells\[1\].privacy.epsilon must be a number where it is verified"),
        (certified_without_delta, r"cells\[1\].privacy.delta must be a number where it is verif"),
    ],
)
def test_what_is_no_result_is_refused_by_name(results: Values, spoil: Any, message: str) -> None:  # noqa: ANN401
    spoil(results)
    with pytest.raises(ValueError, match=message):
        Results.read(results)
