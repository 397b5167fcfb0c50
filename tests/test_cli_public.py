"""``train --public``: from files of another size and form to what is printed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.commands import dpgen
from tests.test_cli_trust import BUDGET, TINY, statement

pytestmark = pytest.mark.usefixtures("one_thread", "home", "remembering_accountant")

FEW = ["--set", "teacher.public.n_steps=2", "--set", "teacher.public.batch_size=4"]


def test_train_learns_from_public_images_of_another_form_and_verify_names_them(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    mine, public, run = tmp_path / "mine.npz", tmp_path / "pictures.npz", tmp_path / "run"
    np.savez(mine, images=rng.integers(0, 256, (30, 8, 8), dtype=np.uint8))
    # Larger, in colour, in floats, and with text for labels of classes that are named nowhere.
    pixels = rng.uniform(0, 2, (9, 20, 16, 3)).astype(np.float32)
    np.savez(public, images=pixels, labels=np.array(["cat", "dog", "fox"] * 3))
    words = ["train", "dpdm", "--data", mine, *BUDGET, *TINY, *FEW, "--out", run, "-q", "--yes"]
    refused = dpgen(*words, "--public", public)
    assert refused.exit_code == 2 and "--public-value-range" in refused.stderr
    opened = ["--public", public, "--public-value-range", "0,2"]
    refused = dpgen(*words, *opened)
    assert refused.exit_code == 2 and "--public-classes NAME,NAME" in refused.stderr
    found = dpgen(*words, *opened, "--public-classes", "cat,dog,fox")
    assert found.exit_code == 0, found.stderr
    told = statement(run)["public_start"]
    assert told["images"]["name"] == "pictures.npz" and told["images"]["n_images"] == 9
    assert told["statement"] in found.stdout
    checked = dpgen("verify", run)
    assert checked.exit_code == 0 and f"public start: {told['statement']}" in checked.stdout
    drawn = dpgen("sample", run, "-n", 2, "--out", tmp_path / "set", "-q")
    assert told["statement"] in drawn.stdout
    # The same files, read as private, do not start from themselves.
    again = dpgen(*words[:-3], tmp_path / "other", "-q", "--yes", "--public", mine)
    assert again.exit_code == 2 and "30 different images of 'mine.npz' are private" in again.stderr
    lonely = dpgen(*words, "--public-value-range", "0,2")
    assert lonely.exit_code == 2 and "name them with --public DATA" in lonely.stderr
