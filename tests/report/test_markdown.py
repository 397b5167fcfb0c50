from __future__ import annotations

from typing import Any

from dpgen.report import markdown

TINY: dict[str, Any] = {
    "schema": "dpgen-benchmark/1",
    "title": "Two *methods*",
    "created": "2031-05-04T14:00:00+02:00",
    "data": {"name": "digits", "n_records": 1437, "shape": [1, 8, 8], "class_names": ["0", "1"],
             "public": True},
    "methods": [{"label": "b|b"}, {"label": "a"}],
    "seeds": 2,
    "cells": [
        {"label": "b|b", "epsilon": 1.0, "seed": 0, "status": "done",
         "privacy": {"epsilon": 0.99, "delta": 1e-5, "adjacency": "add_remove", "verified": True},
         "metrics": {"accuracy_cnn": 0.5, "classifier_fid": 20.0}, "seconds": {"train": 90.0}},
        {"label": "b|b", "epsilon": 1.0, "seed": 1, "status": "done",
         "privacy": {"epsilon": 0.98, "delta": 1e-5, "adjacency": "add_remove", "verified": True},
         "metrics": {"accuracy_cnn": 0.6, "classifier_fid": 24.0},
         "seconds": {"train": 180.0, "sample": 30.0}},
        {"label": "a", "epsilon": 1.0, "seed": 0, "status": "failed", "error": "no <memory>\nleft"},
    ],
    "references": {"real": {"accuracy_cnn": 0.98}},
}  # fmt: skip


def test_a_tiny_table_is_exact() -> None:
    assert markdown(TINY) == (
        "# Two \\*methods\\*\n"
        "\n"
        "digits, 1,437 records of 8x8; 2 classes; 2 methods at 1 epsilon with 2 seeds; "
        "2031-05-04 12:00 UTC\n"
        "\n"
        "| epsilon | method | classifier FID ↓ | accuracy, cnn ↑ (%) | seeds | certified epsilon | "
        "time per cell |\n"
        "|---|---|---|---|---|---|---|\n"
        "| 1 | b\\|b | 22.0 ± 2.0 | 55.0 ± 5.0 | 2 of 2 | 0.99 | 2.5 min |\n"
        "| 1 | a | – | – | 0 of 2, 1 failed, 1 missing | – | – |\n"
        "| – | real images | – | 98.0 | – | – | – |\n"
        "\n"
        "Mean over seeds ± standard error.\n"
        "\n"
        "Whatever anyone does with a cell's model or images, the presence of any one image-label "
        "record in its training data changes the probability of every outcome by at most a factor "
        "of e^epsilon, except for a probability of delta = 1e-05 (adding or removing one record).\n"
        "Each epsilon was computed from the releases in the cell's own ledger, by an accountant "
        "that errs on the large side, and computed again from its certificate: 2 of 2 finished "
        "cells.\n"
        "An epsilon is that of one cell alone; all cells of this report together spend more.\n"
        "Metrics compare with real images without noise; they were not charged and no epsilon "
        "covers them: this data set is public.\n"
        "\n"
        "* a, epsilon 1, seed 0 failed: no \\<memory\\> left\n"
    )


def test_a_claim_is_never_written_as_a_certified_epsilon(results: dict[str, Any]) -> None:
    for cell in results["cells"]:
        if cell["label"] == "dp-sad":
            cell["privacy"].update(verified=False, epsilon="infinite")
    rows = [line for line in markdown(results).splitlines() if "| dp-sad |" in line]
    assert len(rows) == 4 and all("| not verified |" in row for row in rows)
    assert "Without a verified guarantee: 12 of 48 finished cells." in markdown(results)


def test_no_name_breaks_the_table(results: dict[str, Any]) -> None:
    results["methods"][0]["label"] = hostile = "a|b\n| c <script> \\"
    for cell in results["cells"]:
        cell["label"] = hostile if cell["label"] == "dp-sad" else cell["label"]
    lines = [line for line in markdown(results).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 16 + 1
    assert "a\\|b \\| c \\<script\\> \\\\" in lines[2]
