"""Perceptual features have norm one, are a function of one image, and survive a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dpgen.networks.per_record import require_per_record
from dpgen.networks.perceptual import HiddenFeatures, PerceptualNetwork, _pooled
from dpgen.runs.checkpoint import Checkpoints

SHAPE, K = (1, 8, 8), 3
BARE = HiddenFeatures(16, 6, (0.4, 1.6), seed=10)


def images(n: int = 5, seed: int = 0) -> Tensor:
    return 2 * torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed)) - 1


def network(seed: int = 0) -> PerceptualNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PerceptualNetwork(SHAPE, K, width=16)


FEATURES = BARE.learned(network(), images(100))


def test_every_image_has_norm_one_in_both_layers() -> None:
    found = FEATURES(images())
    assert found.shape == (5, FEATURES.n_features) == (5, 24)
    for half in found.double().split(12, 1):
        torch.testing.assert_close(
            half.norm(dim=1), torch.full((5,), 0.5).double().sqrt(), rtol=0, atol=1e-6
        )


def test_no_image_however_far_from_the_samples_has_a_longer_vector() -> None:
    found = FEATURES(torch.cat([images() * s for s in (1e3, 1e6, 1e12)])).double()
    assert float(found.norm(dim=1).max()) <= 1 + 1e-6


def test_an_images_features_do_not_depend_on_the_others() -> None:
    require_per_record(network())
    x = images()
    changed = x.clone()
    changed[1:] = torch.nan
    assert torch.equal(FEATURES(changed)[0], FEATURES(x)[0])
    assert torch.isnan(FEATURES(changed)[1]).any(), "which the release counts as nothing"
    torch.testing.assert_close(FEATURES(x[2:3])[0], FEATURES(x)[2], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(7, 7), (8, 8), (5, 9)])
def test_maps_are_pooled_as_torch_pools_them(height: int, width: int) -> None:
    maps = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    for side in (4, 7):
        found, truth = _pooled(maps, side), functional.adaptive_avg_pool2d(maps, side)
        torch.testing.assert_close(found, truth, rtol=0, atol=1e-6)


def test_scales_are_those_of_the_samples_and_not_of_what_is_asked() -> None:
    samples = images(100)
    with torch.no_grad():
        layers = network().layers(samples)
    for h, scales in zip(layers, FEATURES.scales, strict=True):
        torch.testing.assert_close(scales.mean, h.mean(0))
        g = (h - scales.mean) / scales.spread
        middle = (g[:50] - g[50:]).norm(dim=1).median()
        torch.testing.assert_close(scales.distance, middle)
    before = [t.clone() for scales in FEATURES.scales for t in scales]
    FEATURES(10 * images(50, seed=3))
    after = [t for scales in FEATURES.scales for t in scales]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_bandwidth_is_in_units_of_the_distance_between_samples() -> None:
    """Two images at the median distance: inner product near the kernel's exp(-1 / (2 b^2))."""
    wide = HiddenFeatures(16, 20_000, (0.8,), seed=0).learned(network(), images(100))
    x = images(100)
    with torch.no_grad():
        layers = network().layers(x)
    g = [(h - s.mean) / s.spread for h, s in zip(layers, wide.scales, strict=True)]
    phi = wide(x[[0, 50]])
    expected = 0.0
    for part, scales in zip(g, wide.scales, strict=True):
        ratio = float((part[0] - part[50]).norm() / scales.distance)
        expected += 0.5 * torch.exp(torch.tensor(-(ratio**2) / (2 * 0.8**2))).item()
    # A mean of 40,000 cosines of variance at most 1/2: five standard errors.
    assert float(phi[0] @ phi[1]) == pytest.approx(expected, abs=5 * (0.5 / 40_000) ** 0.5)


def test_a_checkpoint_brings_back_the_very_same_question(tmp_path: Path) -> None:
    states = Checkpoints(tmp_path / "state")
    states.save("features 2", FEATURES.tensors())
    held = states.load("features 2")
    assert held is not None
    again = BARE.from_tensors(network(seed=9), held[0])
    assert torch.equal(again(images()), FEATURES(images()))
    torch.testing.assert_close(again(images()), FEATURES(images()), rtol=0, atol=0)


def test_what_was_learned_is_no_setting_and_needed_first() -> None:
    assert BARE.settings == FEATURES.settings and BARE == FEATURES
    with pytest.raises(RuntimeError, match="HiddenFeatures needs a network trained on samples"):
        BARE(images())
    for other in (
        HiddenFeatures(8, 6, (0.4, 1.6), 10),
        HiddenFeatures(16, 7, (0.4, 1.6), 10),
        HiddenFeatures(16, 6, (0.4, 1.5), 10),
        HiddenFeatures(16, 6, (0.4, 1.6), 11),
    ):
        assert other.settings != BARE.settings


def test_gradients_reach_the_image_and_no_weight() -> None:
    x = images().requires_grad_()
    FEATURES(x)[:, 0].sum().backward()
    assert x.grad is not None and (x.grad.flatten(1).norm(dim=1) > 0).all()
    assert FEATURES.network is not None
    assert not any(p.requires_grad for p in FEATURES.network.parameters())


def test_samples_that_are_all_alike_give_features_that_are_still_numbers() -> None:
    collapsed = BARE.learned(network(), images(1).expand(100, *SHAPE))
    found = collapsed(images()).double()
    assert torch.isfinite(found).all() and float(found.norm(dim=1).max()) <= 1 + 1e-6


def test_no_two_layers_and_no_two_rounds_share_their_frequencies() -> None:
    seeds = [m.seed for k in range(1, 4) for m in HiddenFeatures(16, 6, (1.0,), 10 * k)._maps]
    assert len(set(seeds)) == 6
