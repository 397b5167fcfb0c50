"""What is trusted of a release: a bandwidth whose embeddings are mostly noise weighs little."""

from __future__ import annotations

import torch

from dpgen.networks.fixed.fourier import FourierFeatures
from dpgen.stages.stacked import LEAST, trust


def test_trust_is_the_share_of_the_squared_length_that_is_not_noise() -> None:
    """Three bandwidths of signals 1, 0.5 and 0 under unit noise: 1/2, 1/5 and nothing."""
    bands = FourierFeatures(4, 6000, (0.1, 0.2, 0.4)).bands
    assert bands[:4].tolist() == [0, 1, 2, 0] and bands.bincount().tolist() == [4000] * 3
    draw = torch.randn(2, 5, len(bands), generator=torch.Generator().manual_seed(0)).double()
    signal, noise = draw[0] * torch.tensor([1.0, 0.5, 0.0]).double()[bands], draw[1]
    weights = trust(signal + noise, torch.ones_like(noise), bands)
    for band, expected in enumerate((0.5, 0.2, 0.0)):
        own = weights[bands == band]
        assert own.min() == own.max() and abs(float(own[0]) - expected) < 0.03
    none = trust(noise, 2 * torch.ones_like(noise), bands)
    assert torch.equal(none, torch.full_like(none, LEAST))
    assert torch.equal(trust(signal + noise, 0 * noise, bands), torch.ones_like(weights))
