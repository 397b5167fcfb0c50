"""Decoder, labeller, proposer: an image is a function of its own latent, files keep it whole."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dpgen.networks.decoder import Decoder, DecoderConfig
from dpgen.networks.fixed.gabor import GaborFeatures
from dpgen.networks.labeller import Axes, LabellerConfig
from dpgen.networks.per_record import require_per_record
from dpgen.networks.proposer import Proposer, ProposerConfig
from dpgen.runs.released import load_network
from dpgen.settings import plain

SHAPE, K = (1, 8, 8), 3
GABOR = GaborFeatures(SHAPE, grid=4)
CONFIG = ProposerConfig(DecoderConfig(SHAPE, K, width=16), 1.0, LabellerConfig(GABOR, K, 5))


def proposer(config: ProposerConfig = CONFIG) -> Proposer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = Proposer(config)
    if made.labeller is not None:
        drawn = made.decoder.draw(torch.arange(60) % K, torch.Generator().manual_seed(0))
        weights = torch.randn(5, K, generator=torch.Generator().manual_seed(1))
        made.labeller.set(Axes.fitted(GABOR(drawn), 5), weights, torch.zeros(K))
    return made.eval()


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 30, 17), (3, 64, 64)])
def test_a_decoder_gives_images_of_its_shape_each_from_its_own_latent(
    shape: tuple[int, int, int],
) -> None:
    decoder = Decoder(DecoderConfig(shape, K, width=16))
    require_per_record(decoder)
    z, labels = torch.randn(4, 20, generator=torch.Generator().manual_seed(0)), torch.arange(4) % K
    whole = decoder(z, labels)
    assert whole.shape == (4, *shape) and whole.abs().max() < 1
    torch.testing.assert_close(decoder(z[2:3], labels[2:3])[0], whole[2], rtol=1e-4, atol=1e-5)


def test_a_decoder_hears_its_label() -> None:
    decoder, z = Decoder(DecoderConfig(SHAPE, K, width=16)), torch.zeros(K, 20)
    images = decoder(z, torch.arange(K))
    assert not torch.allclose(images[0], images[1], atol=1e-4)


def test_a_proposers_images_are_those_that_its_labeller_agrees_with_where_it_can() -> None:
    judged = proposer()
    bare = Proposer(dataclasses.replace(CONFIG, labeller=None))
    bare.decoder.load_state_dict(judged.decoder.state_dict())
    labels = torch.arange(300) % K
    assert judged.labeller is not None

    def agreement(images: torch.Tensor) -> float:
        assert judged.labeller is not None
        return float((judged.labeller.label(images) == labels).float().mean())

    before = agreement(bare.draw(labels, torch.Generator().manual_seed(3)))
    after = agreement(judged.draw(labels, torch.Generator().manual_seed(3)))
    assert before < 0.9 and after > before + 0.1


def assert_a_file_brings_back(made: Proposer, file: Path, n_classes: int) -> None:
    numbers = json.dumps(plain(dataclasses.asdict(made.config)))
    save_file(made.state_dict(), file, metadata={"proposer": numbers})
    again = load_network(file)
    assert isinstance(again, Proposer) and again.config == made.config
    labels = torch.arange(20) % n_classes
    first, second = (p.draw(labels, torch.Generator().manual_seed(5)) for p in (made, again))
    assert torch.equal(first, second)


def test_a_file_brings_back_the_same_proposer(tmp_path: Path) -> None:
    assert_a_file_brings_back(proposer(), tmp_path / "p.safetensors", K)


def test_a_file_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors", metadata={"other": "{}"})
    with pytest.raises(ValueError, match="holds no denoiser or proposer"):
        load_network(tmp_path / "x.safetensors")


def test_a_proposer_mirrors_half_of_its_images_if_its_class_survives_that() -> None:
    config = dataclasses.replace(CONFIG, labeller=None, warp=0.0)
    plain_one, mirroring = proposer(config), proposer(dataclasses.replace(config, mirror=True))
    labels = torch.arange(200) % K
    ours, theirs = (
        made.draw(labels, torch.Generator().manual_seed(3)) for made in (plain_one, mirroring)
    )
    turned = (ours.flip(-1) == theirs).flatten(1).all(1)
    assert 70 < int(turned.sum()) < 130
    assert torch.equal(ours[~turned], theirs[~turned])
