from __future__ import annotations

import re
from typing import Any

from dpgen.report.results import Results
from dpgen.report.tables import certified, progress, seeds, table

Values = dict[str, Any]


def rows(text: str) -> list[list[str]]:
    """The cells of every row, without their markup."""
    found = []
    for row in re.findall(r"<tr>(.*?)</tr>", text):
        cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)
        found.append([re.sub(r"<[^>]*>", "", cell) for cell in cells])
    return found


def test_rows_go_by_epsilon_then_by_method_and_end_with_real_images(results: Values) -> None:
    found = rows(table(Results.read(results)))
    labels = ["dp-sad", "dpdm", "pge dpsgd", "pge sketch"]
    expected = ["Method"]
    for epsilon in ("0.2", "1", "5", "10"):
        expected += [f"epsilon {epsilon}", *labels]
    assert [row[0] for row in found] == [*expected, "real images"]
    assert found[0][1:4] == ["classifier FID ↓", "accuracy, cnn ↑ (%)", "accuracy, mlp ↑ (%)"]
    assert found[0][-2:] == ["Seeds", "Certified epsilon"]
    assert found[2][-2:] == ["3 of 3", "0.1999"]
    assert found[-1][1:3] == ["0.8", "98.6"] and found[-1][-2:] == ["–", "–"]


def test_a_value_is_mean_and_standard_error_and_the_best_is_bold(results: Values) -> None:
    for cell in results["cells"]:
        if cell["epsilon"] == 1.0:
            best = 0.4123 if cell["label"] == "dpdm" else 0.0
            cell["metrics"]["accuracy_cnn"] = 0.5 + best + 0.01 * cell["seed"]
    text = table(Results.read(results))
    assert text.count("<strong>92.2 ± 0.6</strong>") == 1
    assert text.count("<td>51.0 ± 0.6</td>") == 3


def test_seeds_that_are_not_done_are_counted(results: Values) -> None:
    results["cells"].pop()
    results["cells"][3].update(status="failed")
    found = Results.read(results)
    assert seeds(found, "dp-sad", 1.0) == "3 of 3"
    assert seeds(found, "pge sketch", 10.0) == "2 of 3, 1 missing"
    assert seeds(found, "pge sketch", 0.2) == "2 of 3, 1 failed"


def test_the_certified_epsilon_is_the_largest_and_never_a_claim(results: Values) -> None:
    mine = [c for c in results["cells"] if (c["label"], c["epsilon"]) == ("dpdm", 1.0)]
    mine[1]["privacy"]["epsilon"] = 0.99951
    found = Results.read(results)
    assert certified(found.done("dpdm", 1.0)) == "0.99951"
    assert certified([]) == "–"
    mine[2]["privacy"]["verified"] = False
    assert certified(Results.read(results).done("dpdm", 1.0)) == "not verified"


def test_every_cell_has_a_mark(results: Values) -> None:
    results["cells"].pop()
    results["cells"][3].update(status="failed")
    text = progress(Results.read(results))
    assert (text.count("●"), text.count("✕"), text.count("○")) == (46, 1, 1)
    found = rows(text)
    assert found[0] == ["Method", "epsilon 0.2", "epsilon 1", "epsilon 5", "epsilon 10"]
    assert found[4][1].startswith("✕●●") and found[4][4].startswith("●●○")
