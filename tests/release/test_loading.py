"""Sets of every format, loaded by the packages that people load them with."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpgen import _torchvision
from dpgen.data.sources import open_source
from tests.release.conftest import N_IMAGES, NAMES

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def load_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`datasets.load_dataset` without a network and with a cache of its own."""
    datasets = pytest.importorskip("datasets", reason="of the extra `dev`")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    cache = str(tmp_path / "cache")
    return lambda folder: datasets.load_dataset(str(folder), cache_dir=cache)


def pixels_and_labels(folder: Path) -> list[tuple[bytes, int]]:
    """What dpgen reads of a set, in any order."""
    pixels, labels = open_source(folder).read(range(N_IMAGES))
    rows = zip(pixels.permute(0, 2, 3, 1).numpy(), labels.tolist(), strict=True)
    return sorted((image.tobytes(), label) for image, label in rows)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layout", ["folder", "parquet", "webdataset"])
def test_datasets_loads_the_images_with_class_names_and_nothing_else(
    layout: str, channels: int, drawn: Callable[..., Path], load_dataset: Callable[..., Any]
) -> None:
    folder = drawn(layout, channels=channels)
    loaded = load_dataset(folder)
    assert list(loaded) == ["train"]
    rows = loaded["train"]
    image, label = ("png", "cls") if layout == "webdataset" else ("image", "label")
    more = {"__key__", "__url__"} if layout == "webdataset" else set()
    assert set(rows.features) == {image, label} | more
    assert rows.features[label].names == list(NAMES)
    found = sorted((np.asarray(row[image]).tobytes(), row[label]) for row in rows)
    assert found == pixels_and_labels(folder)


@pytest.mark.parametrize("layout", ["folder", "parquet", "webdataset"])
def test_a_set_of_one_class_has_its_label(
    layout: str, drawn: Callable[..., Path], load_dataset: Callable[..., Any]
) -> None:
    rows = load_dataset(drawn(layout, names=("all",)))["train"]
    label = rows.features["cls" if layout == "webdataset" else "label"]
    assert label.names == ["all"] and len(rows) == N_IMAGES


def test_without_its_card_a_set_is_taken_for_something_else(
    drawn: Callable[..., Path], load_dataset: Callable[..., Any]
) -> None:
    """So the test above sees what the header of the card is for."""
    rows = load_dataset(drawn("webdataset", pages=False))["train"]
    assert not hasattr(rows.features["cls"], "names")


def test_no_record_is_made_of_npz_and_the_card_says_how_to_load_them(
    drawn: Callable[..., Path], load_dataset: Callable[..., Any], tmp_path: Path
) -> None:
    folder = drawn("npz")
    with pytest.raises(Exception, match="No .*data files"):
        load_dataset(folder)
    text = (folder / "README.md").read_text()
    assert "`load_dataset` has no reader of npz archives" in text
    found = _run(text, folder, "[images.features['label'].names, len(images)]", tmp_path)
    assert found == [list(NAMES), N_IMAGES]


@pytest.mark.parametrize("layout", ["folder", "webdataset"])
def test_the_code_of_a_card_runs_as_it_stands(
    layout: str, drawn: Callable[..., Path], tmp_path: Path
) -> None:
    folder = drawn(layout)
    text = (folder / "README.md").read_text()
    assert _run(text, folder, "len(list(images))", tmp_path) == N_IMAGES


def test_image_folder_sees_the_class_folders_alone(drawn: Callable[..., Path]) -> None:
    if _torchvision.repair() not in ("ok", "repaired"):
        pytest.skip("the class under test is torchvision's own")
    from torchvision.datasets import ImageFolder

    folder = drawn("folder")
    found = ImageFolder(str(folder))
    # It knows folders only: a class without images has none.
    assert found.classes == sorted(set(NAMES) - {NAMES[-1]})
    names = open_source(folder).class_names
    rows = [
        (np.asarray(image.convert("L")).tobytes(), names.index(found.classes[label]))
        for image, label in found
    ]
    assert sorted(rows) == pixels_and_labels(folder)


def test_webdataset_reads_the_shards(drawn: Callable[..., Path]) -> None:
    webdataset = pytest.importorskip("webdataset", reason="of the extra `dev`")
    folder = drawn("webdataset")
    shards = sorted(map(str, folder.glob("*.tar")))
    assert len(shards) == 3
    rows = webdataset.WebDataset(shards, shardshuffle=False).decode("pil").to_tuple("png", "cls")
    found = sorted((np.asarray(image.convert("L")).tobytes(), label) for image, label in rows)
    assert found == pixels_and_labels(folder)


def _run(card: str, folder: Path, shown: str, tmp_path: Path) -> Any:  # noqa: ANN401
    """Runs all code of a card in a process of its own, and returns the value of ``shown``."""
    code = "".join(re.findall(r"```python\n(.*?)```", card, re.DOTALL))
    repaired = "from dpgen._torchvision import repair\nrepair()\n"
    script = f"import json\n{repaired}{code}\nprint(json.dumps({shown}))"
    places = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    ran = subprocess.run(
        [sys.executable, "-c", script.replace("FOLDER", str(folder))],
        env=os.environ | places, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(ran.stdout.splitlines()[-1])
