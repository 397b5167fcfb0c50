"""A decoder of released moments: what it is to match, and that it comes to draw alike."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dpgen.networks.decoder import Decoder, DecoderConfig
from dpgen.networks.seeding import seeded
from dpgen.networks.spectral import SpectralConfig, SpectralPictures
from dpgen.runs.checkpoint import Checkpoints
from dpgen.runs.context import Hardware, Workplace
from dpgen.training.imitation import class_means, features_of, imitate
from dpgen.training.imitation_settings import ImitationSettings

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = SpectralConfig((1, 8, 8), n_classes=3, bands=3, own_spread=False)
SETTINGS = ImitationSettings(n_pictures=90, n_steps=200, n_per_class=8, n_frequencies=300)


def pictures() -> SpectralPictures:
    """Three classes of different brightness, which vary little."""
    found, m = SpectralPictures(CONFIG), CONFIG.basis.n_coefficients
    means = torch.zeros(3, m)
    means[:, 0] = torch.tensor([-5.0, 0.0, 5.0])
    found.set(means, 0.3 * torch.eye(m)[None], torch.full((3,), 0.1), torch.full((3,), 0.1))
    return found


def test_mean_features_are_those_of_all_pictures_of_a_class() -> None:
    """More pictures than are drawn at once, and not equally many of each class."""
    features, n = features_of(SETTINGS, CONFIG.shape), 301
    drawn, labels = torch.Generator().manual_seed(4), torch.arange(n) % 3
    found = class_means(pictures(), features, n, drawn)
    drawn.manual_seed(4)
    pixels = pictures().draw(labels, drawn)
    for k in range(3):
        torch.testing.assert_close(found[k], features(pixels[labels == k]).double().mean(0))


def test_the_decoder_draws_images_like_those_that_it_imitates(tmp_path: Path) -> None:
    work = Workplace(Checkpoints(tmp_path), Hardware("cpu").accelerator(), None, 7, False)
    with seeded(work.seed):
        bare = Decoder(DecoderConfig(CONFIG.shape, CONFIG.n_classes))
    decoder = imitate(bare, pictures(), SETTINGS, work)
    labels = torch.arange(300) % 3
    ours = decoder.draw(labels, torch.Generator().manual_seed(1))
    theirs = pictures().draw(labels, torch.Generator().manual_seed(2))
    for k in range(3):
        mine, wanted = ours[labels == k], theirs[labels == k]
        assert (mine.mean(0) - wanted.mean(0)).abs().mean() < 0.1, k
        assert 0.3 < float(mine.std(0).mean() / wanted.std(0).mean()) < 2, k
