"""Nearest records against brute force, and copying against what independence implies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dpgen.evaluation import nearest as nearest_module
from dpgen.evaluation.nearest import SAME, copying, nearest, save_nearest
from dpgen.images.images import Images


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


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_the_size_of_a_chunk_changes_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, others = rows(20, 40), rows(64, 40, seed=1)
    whole = nearest(ours, others, k=12)
    monkeypatch.setattr(nearest_module, "CHUNK", chunk)
    parts = nearest(ours, others, k=12)
    assert torch.equal(parts.indices, whole.indices)
    assert torch.equal(parts.distances, whole.distances)
    everything = nearest(ours, others, k=64)
    assert torch.equal(everything.indices[:, :12], whole.indices)
    assert torch.equal(everything.indices.sort(1).values, torch.arange(64).expand(20, 64))


def test_equal_features_are_at_distance_zero_exactly_and_near_ones_in_order() -> None:
    """A thousand units wide, where a difference of squares is blind below 1e-5."""
    others = 1000 * rows(300, 128).double()
    assert torch.equal(nearest(others, others, k=1).distances, torch.zeros(300, 1).double())
    step = torch.zeros(128, dtype=torch.float64)
    step[0] = 1e-6
    ladder = others[:1] + torch.arange(6)[:, None] * step
    found = nearest(others[:1], torch.cat([ladder.flip(0), others[1:]]), k=3)
    assert found.indices.tolist() == [[5, 4, 3]]
    expected = torch.arange(3).double()[None] * 1e-6
    torch.testing.assert_close(found.distances, expected, rtol=1e-6, atol=0)


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


def test_copies_show_although_some_held_out_images_repeat_training_records() -> None:
    """MNIST and CIFAR do repeat images; float32 features of one image differ in the last digits."""
    training, n_same = rows(400), 10
    held_out = torch.cat([rows(290, seed=1), training[:n_same] * (1 + 1e-6)])
    found = copying(training * (1 - 2e-6), training, held_out)
    assert found.share(0.01) == 1.0
    assert (found.samples == 0).all() and (found.held_out == 0).sum() == n_same
    assert copying(rows(300, seed=2), training, held_out).share(0.01) == 0.0
    stated = found.to_dict()
    assert (stated["n_samples_at_zero"], stated["n_held_out_at_zero"]) == (400, 10)
    assert stated["share_nearer_than_quantile"]["0.01"] == 1.0


def test_a_distance_that_is_no_rounding_is_kept() -> None:
    training = rows(400)
    spread = float((training - training.mean(0)).norm(dim=1).square().mean().sqrt())
    shift = torch.tensor([1.0, 0, 0, 0, 0, 0]) * SAME * spread
    assert SAME == 1e-4  # other digits lie 0.1 spreads apart, roundings of one 1e-6
    near = torch.cat([training[:5] + 0.5 * shift, training[:5] + 2 * shift])
    found = copying(near, training, rows(50, seed=1)).samples
    assert (found[:5] == 0).all()
    torch.testing.assert_close(
        found[5:], torch.full((5,), 2 * SAME * spread).double(), rtol=1e-2, atol=0
    )


def test_held_out_images_that_were_learned_are_refused() -> None:
    """Against them a generator that copies all but exactly would look good."""
    training = rows(100)
    with pytest.raises(ValueError, match="50 of 100 have the features of a training record"):
        copying(rows(20, seed=2), training, torch.cat([training[:50], rows(50, seed=1)]))
    copying(rows(20, seed=2), training, torch.cat([training[:49], rows(51, seed=1)]))


def test_features_that_are_no_numbers_are_refused() -> None:
    """NaN is not smaller than any quantile: a copy with it would count as far away."""
    for value in (float("nan"), float("inf")):
        broken = rows(5).index_fill(0, torch.tensor([3]), value)
        with pytest.raises(ValueError, match="features of rows must be finite"):
            copying(broken, rows(9), rows(9, seed=1))
        with pytest.raises(ValueError, match="features of others must be finite"):
            nearest(rows(9), broken, k=1)


def test_a_report_is_private_and_counts_what_it_compared() -> None:
    found = copying(rows(30), rows(40, seed=1), rows(20, seed=2))
    stated = json.loads(json.dumps(found.to_dict()))
    assert stated["private"] is True
    assert (stated["n_samples"], stated["n_held_out"]) == (30, 20)
    for name, distances in (("samples", found.samples), ("held_out", found.held_out)):
        np.testing.assert_allclose(stated[name], np.quantile(distances, stated["quantiles"]))
    for q, share in stated["share_nearer_than_quantile"].items():
        assert share == np.mean(found.samples.numpy() <= np.quantile(found.held_out, float(q)))


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
        below = picture[row + 32 : row + 32 + 14]
        assert 0 < (below[:, 88:152] < 128).mean() < 0.2  # the distance, in letters
        assert (below[:, 6:70] == 255).all()
    assert picture.shape == (14 + 6 + 3 * (64 + 14 + 6), 3 * (64 + 6) + 18)


def test_colours_stay_where_they_are(tmp_path: Path) -> None:
    pixels = torch.tensor([-1.0, 0.2, 1.0])[None, :, None, None].expand(1, 3, 70, 40)
    images = Images(pixels, torch.zeros(1, dtype=torch.int64))
    found = nearest(pixels.flatten(1), pixels.flatten(1), k=1)
    save_nearest(tmp_path / "n.png", images, images, found)
    picture = np.asarray(Image.open(tmp_path / "n.png"))
    inside = picture[20 : 20 + 70, 6 : 6 + 40]
    assert (inside == np.array([0, 153, 255])).all()


@pytest.mark.parametrize(
    ("name", "shapes", "n_rows", "message"),
    [
        ("n.jpg", ((3, 1, 8, 8), (3, 1, 8, 8)), 3, "must end in .png"),
        ("n.png", ((3, 1, 8, 8), (3, 1, 8, 8)), 0, "n_rows must be at least 1, got 0"),
        ("n.png", ((3, 1, 8, 8), (3, 1, 8, 9)), 3, r"one shape.*\(1, 8, 8\) and \(1, 8, 9\)"),
        ("n.png", ((3, 2, 8, 8), (3, 2, 8, 8)), 3, "1 or 3 channels"),
        ("n.png", ((2, 1, 8, 8), (3, 1, 8, 8)), 3, "at most the 2 samples, got 3"),
    ],
)
def test_pictures_of_what_does_not_fit_are_refused(
    tmp_path: Path, name: str, shapes: tuple[tuple[int, ...], ...], n_rows: int, message: str
) -> None:
    samples, training = (
        Images(torch.zeros(shape), torch.zeros(shape[0], dtype=torch.int64)) for shape in shapes
    )
    found = nearest(rows(3), rows(3, seed=1), k=2)
    with pytest.raises(ValueError, match=message):
        save_nearest(tmp_path / name, samples, training, found, n_rows=n_rows)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match=r"k must lie in \[1, 4\]"):
        nearest(rows(3), rows(4), k=5)
    with pytest.raises(ValueError, match=r"features must be \(M, D\) and \(N, D\)"):
        nearest(rows(3), rows(4, 5), k=1)
    with pytest.raises(ValueError, match="at least 2 held-out"):
        copying(rows(3), rows(4), rows(1))
    with pytest.raises(ValueError, match="quantile must lie"):
        copying(rows(3), rows(4), rows(5)).share(1.0)
