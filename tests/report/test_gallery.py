from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest

from dpgen.report.gallery import Picture, gallery, picture
from dpgen.report.results import Results

Values = dict[str, Any]


def test_methods_stand_side_by_side_at_each_epsilon(results: Values, png: bytes) -> None:
    asked: list[str] = []

    def reader(name: str) -> bytes:
        asked.append(name)
        return png

    text = gallery(Results.read(results), reader)
    assert asked == [
        f"cells/{label}-eps{epsilon}-seed0/grid.png"
        for epsilon in ("0.2", "1", "5", "10")
        for label in ("dp-sad", "dpdm", "pge-dpsgd", "pge-sketch")
    ]
    assert re.findall(r"<h3>(.*?)</h3>", text) == [f"epsilon {e}" for e in ("0.2", "1", "5", "10")]
    encoded = base64.b64encode(png).decode()
    assert text.count(f'src="data:image/png;base64,{encoded}"') == 16
    alt = "Synthetic images by dpdm at epsilon 5, seed 0; rows are the classes 0, 1, 2, 3"
    assert alt in text and text.count(" alt=") == 16


def test_the_first_seed_that_is_done_is_shown(results: Values, png: bytes) -> None:
    for cell in results["cells"]:
        if (cell["label"], cell["epsilon"], cell["seed"]) == ("dpdm", 1.0, 0):
            cell.update(status="failed", error="no memory")
        if (cell["label"], cell["epsilon"], cell["seed"]) == ("dpdm", 1.0, 1):
            cell["grid"] = None
    shown = picture(Results.read(results), "dpdm", 1.0, lambda _: png)
    assert isinstance(shown, Picture) and shown.seed == 2
    assert (shown.width, shown.height) == (332, 662)


def test_without_a_finished_cell_it_says_how_many_there_are(results: Values, png: bytes) -> None:
    results["cells"] = [c for c in results["cells"] if c["label"] != "dpdm"]
    found = Results.read(results)
    assert picture(found, "dpdm", 1.0, lambda _: png) == (
        "no picture; seeds done: 0 of 3, 3 missing"
    )
    assert "no picture; seeds done: 0 of 3, 3 missing" in gallery(found, lambda _: png)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<svg onload=alert(1)>" + bytes(64), "it is no PNG file"),
        (b"\x89PNG\r\n\x1a\n", "it is no PNG file"),
        (None, "No such file or directory"),
    ],
)
def test_a_picture_that_cannot_be_read_is_named(
    results: Values, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    found = Results.read(results)
    name = "cells/dpdm-eps1-seed0/grid.png"
    if content is not None:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(content)
    shown = picture(found, "dpdm", 1.0, tmp_path)
    assert shown == f"the picture {name} cannot be read: {reason}"
    assert str(tmp_path) not in gallery(found, tmp_path)
    assert picture(found, "dpdm", 1.0, None) == (
        f"the picture {name} cannot be read: no folder was given"
    )


@pytest.mark.parametrize("escape", ["../secret.png", "inside/../../secret.png", "link.png"])
def test_the_folder_of_the_results_is_not_left(
    results: Values, png: bytes, tmp_path: Path, escape: str
) -> None:
    (tmp_path / "secret.png").write_bytes(png)
    folder = tmp_path / "results"
    (folder / "inside").mkdir(parents=True)
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    for cell in results["cells"]:
        cell["grid"] = escape
    shown = picture(Results.read(results), "dpdm", 1.0, folder)
    assert shown == f"the picture {escape} cannot be read: it lies outside the results"
    for cell in results["cells"]:
        cell["grid"] = str(tmp_path / "secret.png")
    assert "outside the results" in picture(Results.read(results), "dpdm", 1.0, folder)
