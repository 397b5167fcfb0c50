"""Spectral pictures: images have the moments that were set, and come back from a file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dpgen.networks.decoder import DecoderConfig
from dpgen.networks.proposer import Proposer, ProposerConfig
from dpgen.networks.spectral import SpectralConfig, SpectralPictures
from tests.networks.test_proposer import assert_a_file_brings_back

K, CONFIG = 2, SpectralConfig((3, 8, 8), 2, 4, own_spread=True)


def pictures(config: SpectralConfig = CONFIG, size: float = 0.15) -> SpectralPictures:
    made = SpectralPictures(config)
    g = torch.Generator().manual_seed(0)
    shapes = made.means.shape, made.factors.shape
    means, factors = (size * torch.randn(s, generator=g) for s in shapes)
    made.set(means, factors / 6, torch.tensor([0.3, 0.0]), torch.tensor([0.02, 0.09]))
    return made


@pytest.mark.parametrize("own_spread", [True, False])
def test_images_of_a_class_have_its_moments(own_spread: bool) -> None:
    made = pictures(dataclasses.replace(CONFIG, own_spread=own_spread))
    x = made.draw(torch.ones(4000, dtype=torch.int64), torch.Generator().manual_seed(1))
    assert x.abs().max() <= 1
    c = made.basis.analyse(x)
    factor = made.factors[1 if own_spread else 0].double()
    torch.testing.assert_close(c.mean(0), made.means[1].double(), rtol=0, atol=0.02)
    torch.testing.assert_close(c.T.cov(), factor @ factor.T, rtol=0, atol=0.02)
    outside = (x.double() - made.basis.synthesise(c)).flatten(1).square().sum(1)
    assert float(outside.mean()) == pytest.approx(0.09, rel=0.1)


def test_the_energy_that_is_left_over_is_made_up() -> None:
    made = pictures()
    x = made.draw(torch.zeros(4000, dtype=torch.int64), torch.Generator().manual_seed(1))
    c = made.basis.analyse(x)
    torch.testing.assert_close(c.mean(0), made.means[0].double(), rtol=0, atol=0.03)
    known = made.factors[0].double().square().sum()
    assert float(c.var(0).sum() - known) == pytest.approx(0.3, rel=0.15)


def test_an_image_is_that_of_its_label() -> None:
    made = pictures()
    labels = torch.arange(600) % K

    def drawn(labels: Tensor) -> Tensor:
        return made.draw(labels, torch.Generator().manual_seed(2))

    x = drawn(labels)
    changed = labels.clone()
    changed[7] = 1 - changed[7]
    others = torch.arange(600) != 7
    torch.testing.assert_close(drawn(changed)[others], x[others])
    assert not torch.allclose(drawn(changed)[7], x[7], atol=1e-2)


def test_a_file_brings_back_the_same_proposer(tmp_path: Path) -> None:
    made = Proposer(ProposerConfig(None, 0.0, spectrum=CONFIG))
    made.spectrum = pictures()
    assert_a_file_brings_back(made, tmp_path / "p.safetensors", K)


def test_a_proposer_draws_from_one_of_two() -> None:
    for decoder, spectrum in ((None, None), (DecoderConfig((3, 8, 8), K), CONFIG)):
        with pytest.raises(ValueError, match="either a decoder or a spectrum"):
            ProposerConfig(decoder, 0.0, spectrum=spectrum)


def test_numbers_that_make_no_picture_are_refused() -> None:
    with pytest.raises(ValueError, match="bands must be at least 1, got 0"):
        dataclasses.replace(CONFIG, bands=0)
    with pytest.raises(ValueError, match="shape must be"):
        dataclasses.replace(CONFIG, shape=(3, 0, 8))
