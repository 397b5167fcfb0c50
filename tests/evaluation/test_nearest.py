"""Nearest records against brute force, and copying against what independence implies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dpgen.data.images import Images
from dpgen.evaluation.nearest import copying, nearest, save_nearest


def rows(n: int, d: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_the_nearest_are_those_of_brute_force_also_across_chunks() -> None:
    ours, others = rows(2100, 4), rows(50, 4, seed=1) + 100.0
    ours = ours + 100.0  # far from the origin, where squares cancel
    found = nearest(ours, others, k=3)
    differences = ours.double().numpy()[:, None] - others.double().numpy()[None]
    distances = np.sqrt((differences**2).sum(-1))
    order = distances.argsort(1, kind="stable")[:, :3]
    np.testing.assert_array_equal(found.indices.numpy(), order)
    expected = np.take_along_axis(distances, order, 1)
    np.testing.assert_allclose(found.distances.numpy(), expected, rtol=1e-9)


def test_a_copy_lies_at_distance_zero_and_shows() -> None:
    training, held_out = rows(400), rows(300, seed=1)
    honest = rows(300, seed=2)
    half_copied = torch.cat([honest[:150], training[:150] + 1e-4])
    assert nearest(training[:5], training, k=1).distances.max() < 1e-6
    assert copying(half_copied, training, held_out).share(0.01) >= 0.5
    assert copying(honest, training, held_out).share(0.01) < 0.05


def test_an_honest_generator_has_the_share_that_the_quantile_says() -> None:
    """Ranks of two independent sets of one law: the mean share is q, its spread that of both."""
    training, n, q = rows(500), 2000, 0.1
    share = copying(rows(n, seed=5), training, rows(n, seed=6)).share(q)
    spread = (2 * q * (1 - q) / n) ** 0.5
    assert abs(share - q) < 4 * spread


def test_a_report_is_private_and_counts_what_it_compared() -> None:
    found = copying(rows(30), rows(40, seed=1), rows(20, seed=2))
    stated = json.loads(json.dumps(found.to_dict()))
    assert stated["private"] is True
    assert (stated["n_samples"], stated["n_held_out"]) == (30, 20)
    assert stated["held_out"][2] == pytest.approx(float(found.held_out.median()), rel=0.2)
    assert stated["share_nearer_than_quantile"]["0.01"] == found.share(0.01)


def test_the_picture_shows_samples_beside_their_records(tmp_path: Path) -> None:
    pixels = torch.linspace(-1, 1, 5)[:, None, None, None].expand(5, 1, 8, 8)
    images = Images(pixels, torch.zeros(5, dtype=torch.int64))
    found = nearest(pixels.flatten(1), pixels.flatten(1), k=2)
    save_nearest(tmp_path / "n.png", images, images, found, n_rows=3)
    picture = np.asarray(Image.open(tmp_path / "n.png"))[..., 0]
    top = 14 + 6
    for i in range(3):
        row = top + i * (64 + 14 + 6) + 32
        value = round((float(pixels[i, 0, 0, 0]) + 1) * 127.5)
        assert picture[row, 6 + 32] == value  # the sample
        assert picture[row, 70 + 18 + 32] == value  # itself is its nearest
    with pytest.raises(ValueError, match="must end in .png"):
        save_nearest(tmp_path / "n.jpg", images, images, found)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match=r"k must lie in \[1, 4\]"):
        nearest(rows(3), rows(4), k=5)
    with pytest.raises(ValueError, match=r"features must be \(M, D\) and \(N, D\)"):
        nearest(rows(3), rows(4, 5), k=1)
    with pytest.raises(ValueError, match="at least 2 held-out"):
        copying(rows(3), rows(4), rows(1))
    with pytest.raises(ValueError, match="quantile must lie"):
        copying(rows(3), rows(4), rows(5)).share(1.0)
