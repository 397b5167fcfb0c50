"""What one-shot statistics owe to privacy; what they are good for is tested elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from dpgen.networks.fixed.cosines import Cosines
from dpgen.networks.fixed.fourier import FourierFeatures
from dpgen.networks.fixed.gabor import GaborFeatures
from dpgen.networks.labeller import Axes
from dpgen.networks.perceptual import HiddenFeatures, PerceptualNetwork
from dpgen.privacy.mechanisms.contributions import Statistic
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.stages import label_moments
from dpgen.stages.embedding import ClassEmbeddings
from dpgen.stages.labeller import LabelMoments
from dpgen.stages.moments import ClassMeans, ClassSpread, stack, unstack

Kit = Any  # what conftest.py shares

SHAPE = (1, 4, 4)


def pixels(n: int = 6, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(n, *SHAPE, generator=generator) - 1


@dataclass(frozen=True)
class Doubled:
    """A feature map that keeps no bound of its own."""

    n_features: int = 16

    @property
    def settings(self) -> dict[str, Any]:
        return {"name": "Doubled"}

    def __call__(self, pixels: Tensor) -> Tensor:
        return 2 * pixels.flatten(1)


def hidden() -> HiddenFeatures:
    """Features of hidden layers as an earlier release would have left them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = PerceptualNetwork(SHAPE, 2, width=16)
    return HiddenFeatures(16, 5, (0.8,), 0).learned(network, pixels(100, 9))


def statistics() -> dict[str, Statistic]:
    spread = ClassSpread(Cosines(SHAPE, 3), n_classes=2, radius=0.8)
    means = 0.3 * torch.randn(2, 16, generator=torch.Generator().manual_seed(1)).double()
    gabor = GaborFeatures(SHAPE, grid=2)
    moments = LabelMoments(gabor, 2, 4).along(Axes.fitted(gabor(pixels(100, 9)), 4))
    return {
        "means": ClassMeans(SHAPE, 2, centre=-0.4, radius=1.5, count_weight=0.5),
        "spread": spread.around(means),
        "embeddings": ClassEmbeddings(FourierFeatures(16, 5, (0.5,)), 2, count_weight=0.5),
        "long features": ClassEmbeddings(Doubled(), 2, count_weight=0.5),
        "hidden layers": ClassEmbeddings(hidden(), 2, count_weight=0.5),
        "label moments": moments,
    }


# Features in float32: batches of two sizes are rounded differently.
ROUNDING = {"hidden layers": 1e-5, "label moments": 1e-5}


def lengths(statistic: Statistic, images: Tensor, labels: Tensor) -> Tensor:
    """Norm of each record's blocks, as one vector."""
    blocks = statistic(images, labels).values()
    return sum(b.values.double().square().sum(1) for b in blocks).sqrt()  # type: ignore[union-attr]


def test_stack_is_an_isometry_and_unstack_its_inverse() -> None:
    a = torch.randn(5, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    symmetric = a + a.mT
    stacked = stack(symmetric)
    assert stacked.shape == (5, 10)
    torch.testing.assert_close(stacked.norm(dim=1), symmetric.flatten(1).norm(dim=1))
    torch.testing.assert_close(unstack(stacked), symmetric)


@pytest.mark.parametrize("name", list(statistics()))
def test_no_record_exceeds_the_declared_bound_and_extreme_ones_reach_it(name: str) -> None:
    """So the clip of the release moves the last 1e-5 only, and the scale of unstack is right."""
    statistic = statistics()[name]
    images = torch.cat([pixels(200), torch.ones(1, *SHAPE), -torch.ones(1, *SHAPE)])
    found = lengths(statistic, images, torch.arange(202) % 2)
    assert (found <= statistic.bound * (1 + 1e-6)).all()
    assert found.max() >= statistic.bound * (1 - 1e-6)


@pytest.mark.parametrize("name", list(statistics()))
def test_a_records_blocks_do_not_depend_on_the_other_records(name: str) -> None:
    statistic = statistics()[name]
    labels = torch.tensor([0, 1, 1, 0, 1, 0])
    whole = statistic(pixels(), labels)
    for i in range(6):
        alone = statistic(pixels()[i : i + 1], labels[i : i + 1])
        for block_name, block in alone.items():
            torch.testing.assert_close(
                whole[block_name].values[i],
                block.values[0],
                rtol=1e-7,
                atol=ROUNDING.get(name, 1e-7),
            )
            # Label moments keep one second moment for all classes.
            row = 0 if (name, block_name) == ("label moments", "squares") else labels[i]
            assert whole[block_name].rows[i] == block.rows[0] == row


@pytest.mark.parametrize("name", list(statistics()))
def test_the_content_of_the_other_records_changes_no_bit_of_a_records_blocks(name: str) -> None:
    """Batches of one size are rounded alike; the others may even be no numbers."""
    statistic, labels = statistics()[name], torch.tensor([0, 1, 1, 0, 1, 0])
    whole = statistic(pixels(), labels)
    others = pixels()
    others[1:] = torch.nan
    for block_name, block in statistic(others, labels).items():
        assert torch.equal(block.values[0], whole[block_name].values[0])


@pytest.mark.parametrize("name", list(statistics()))
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_record_that_is_no_number_moves_the_release_by_no_more_than_any_other(
    name: str, value: float, kit: Kit
) -> None:
    mechanism = NoisySum(statistics()[name], 2.0)
    images, labels = pixels(), torch.tensor([0, 1, 1, 0, 1, 0])
    images[5, 0, 1, 2] = value
    totals = []
    for n in (5, 6):
        noise = kit.Silent()
        mechanism.release(kit.Rows(images[:n], labels[:n], torch.ones(n, dtype=torch.bool)), noise)
        totals.append(noise.sum())
    assert torch.isfinite(totals[1]).all()
    assert float((totals[1] - totals[0]).norm()) <= mechanism.statistic.bound


@pytest.mark.parametrize("name", list(statistics()))
def test_the_release_moves_by_at_most_its_bound_and_reaches_it(name: str, kit: Kit) -> None:
    """The production release, noise off: random neighbours and the two extreme images."""
    mechanism = NoisySum(statistics()[name], 2.0)
    base, labels = pixels(), torch.tensor([0, 1, 1, 0, 1, 0])

    def total(images: Tensor, classes: Tensor) -> Tensor:
        noise = kit.Silent()
        mechanism.release(
            kit.Rows(images, classes, torch.ones(len(images), dtype=torch.bool)), noise
        )
        return noise.sum()

    before = total(base, labels)
    reached = 0.0
    for image in [*pixels(20, 5), torch.ones(SHAPE), -torch.ones(SHAPE), base[0]]:
        for label in (0, 1):
            after = total(
                torch.cat([base, image[None]]), torch.cat([labels, torch.tensor([label])])
            )
            reached = max(reached, float((after - before).norm()))
    assert 0.99 * mechanism.statistic.bound <= reached <= mechanism.statistic.bound


def test_counts_and_sums_share_the_bound_they_declare() -> None:
    means = statistics()["means"]
    assert means.bound == pytest.approx(math.hypot(1.5, 0.5))
    block = means(torch.full((1, *SHAPE), -0.4), torch.tensor([1]))["sums"]
    torch.testing.assert_close(block.values[0, -1], torch.tensor(0.5, dtype=torch.float64))


def test_the_spread_is_taken_around_released_means_only() -> None:
    bare = ClassSpread(Cosines(SHAPE, 3), n_classes=2, radius=0.8)
    with pytest.raises(RuntimeError, match="around released means"):
        bare(pixels(), torch.zeros(6, dtype=torch.int64))
    assert bare.settings == statistics()["spread"].settings


def test_a_charge_says_every_number_that_the_statistics_of_the_sketch_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another number is another plan hash: a resumed run cannot ask another question."""
    features = FourierFeatures(16, 5, (0.5,))
    embeddings = ClassEmbeddings(features, 2, count_weight=0.5)
    for other in (
        ClassEmbeddings(features, 3, count_weight=0.5),
        ClassEmbeddings(features, 2, count_weight=0.4),
        ClassEmbeddings(hidden(), 2, count_weight=0.5),
        *(
            ClassEmbeddings(changed, 2, count_weight=0.5)
            for changed in (
                FourierFeatures(17, 5, (0.5,)),
                FourierFeatures(16, 6, (0.5,)),
                FourierFeatures(16, 5, (0.6,)),
                FourierFeatures(16, 5, (0.5,), seed=1),
            )
        ),
    ):
        assert other.settings != embeddings.settings
    gabor = GaborFeatures(SHAPE, grid=2)
    moments = LabelMoments(gabor, 2, 4)
    before = moments.settings
    for other_moments in (
        LabelMoments(GaborFeatures(SHAPE, grid=3), 2, 4),
        LabelMoments(gabor, 3, 4),
        LabelMoments(gabor, 2, 5),
    ):
        assert other_moments.settings != before
    for name in ("COUNT_WEIGHT", "ANGLE"):
        with monkeypatch.context() as patch:
            patch.setattr(label_moments, name, 0.7)
            assert moments.settings != before, name
