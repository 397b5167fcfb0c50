"""``train --public`` and ``train --init``: from files of others to what is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpgen.networks.denoiser import Denoiser, DenoiserConfig
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


def test_train_begins_with_a_network_of_diffusers_and_plan_counts_what_adapters_train(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    mine, hub, run = tmp_path / "mine.npz", tmp_path / "hub", tmp_path / "run"
    np.savez(mine, images=rng.integers(0, 256, (30, 8, 8), dtype=np.uint8))
    unet: Any = Denoiser(DenoiserConfig((1, 8, 8), 1, (8,), 1, (0,), 4)).unet
    unet.register_to_config(num_class_embeds=None)
    unet.class_embedding = None
    unet.save_pretrained(hub)
    words = ["--data", mine, *BUDGET, *TINY, "--init", hub, "--set", "teacher.adapters=2"]
    words = [*words, "--set", "teacher.warm_start_share=0"]
    refused = dpgen("train", "dpdm", *words, "--out", run, "-q", "--yes")
    assert refused.exit_code == 2 and "nothing says how the output" in refused.stderr
    (hub / "scheduler").mkdir()
    scheduler = {"_class_name": "EDMEulerScheduler", "sigma_data": 0.5}
    (hub / "scheduler/scheduler_config.json").write_text(json.dumps(scheduler))
    at = words.index("--limit")
    planned = dpgen("plan", "dpdm", *words[:at], *words[at + 2 :])
    assert planned.exit_code == 0, planned.stderr
    # Four blocks of attention with four layers of 8 channels; two rows of 32; 3x3 of 8, and one.
    n_trained = 4 * 4 * 2 * 2 * 8 + 2 * 32 + 9 * 8 + 1
    assert f"parameters, of which DP-SGD trains {n_trained:,}" in planned.stdout
    assert f"--init {hub}" in planned.stderr
    found = dpgen("train", "dpdm", *words, "--out", run, "-q", "--yes")
    assert found.exit_code == 0, found.stderr
    told = statement(run)["public_start"]
    assert told["weights"]["name"] == "hub" and told["statement"] in found.stdout
    checked = dpgen("verify", run)
    assert checked.exit_code == 0 and f"public start: {told['statement']}" in checked.stdout
    both = dpgen("train", "dpdm", *words, "--public", mine, "--out", run, "-q", "--yes")
    assert both.exit_code == 2 and "--init FOLDER and --public DATA are two starts" in both.stderr
