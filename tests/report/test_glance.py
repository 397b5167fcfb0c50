from __future__ import annotations

import re
from typing import Any

from dpgen.report.glance import glance
from dpgen.report.results import Results

Values = dict[str, Any]


def test_a_tile_names_the_best_by_accuracy_and_by_fid_and_who_is_level(
    results: Values, png: bytes
) -> None:
    for cell in results["cells"]:
        level = {"dpdm": 0.9, "pge sketch": 0.899}.get(cell["label"], 0.5)
        cell["metrics"]["accuracy_cnn"] = level + 0.01 * cell["seed"]
        cell["metrics"]["classifier_fid"] = {"dp-sad": 7.0}.get(cell["label"], 9.0)
    tiles = (glance(Results.read(results), lambda _: png) or "").split('class="tile"')[1:]
    assert [re.findall(r"<h3>(.*?)</h3>", tile) for tile in tiles] == [
        ["epsilon 0.2"], ["epsilon 1"], ["epsilon 5"], ["epsilon 10"]
    ]  # fmt: skip
    for tile in tiles:
        words = re.sub(r"<[^>]*>", " ", tile)
        assert re.search(r"91\.0 %\s+accuracy, cnn\s+dpdm\s+level with it: pge sketch", words)
        assert re.search(r"7\.00\s+classifier FID\s+dp-sad", words)
        assert 'alt="Samples of dpdm at epsilon' in tile


def test_an_epsilon_without_a_verified_cell_has_no_tile(results: Values) -> None:
    for cell in results["cells"]:
        cell["privacy"]["verified"] = cell["epsilon"] == 5.0
    text = glance(Results.read(results), None) or ""
    assert re.findall(r"<h3>(.*?)</h3>", text) == ["epsilon 5"] and "<img" not in text
    results["cells"] = []
    assert glance(Results.read(results), None) is None
