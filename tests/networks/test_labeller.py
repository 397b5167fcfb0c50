"""Axes and labeller: exact directions, rows of norm one, gradients in the image alone."""

from __future__ import annotations

import dataclasses
import json

import torch
from torch import Tensor

from dpgen.networks.fixed.gabor import GaborFeatures
from dpgen.networks.labeller import Axes, Labeller, LabellerConfig, in_parts
from dpgen.settings import from_dict, plain

SHAPE, K, D = (1, 8, 8), 3, 4
CONFIG = LabellerConfig(GaborFeatures(SHAPE, grid=2), K, D)


def images(n: int = 6, seed: int = 0) -> Tensor:
    return 2 * torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed)) - 1


def labeller() -> Labeller:
    made = Labeller(CONFIG)
    generator = torch.Generator().manual_seed(1)
    weights, bias = torch.randn(D, K, generator=generator), torch.randn(K, generator=generator)
    made.set(Axes.fitted(CONFIG.features(images(80)), D), weights, bias)
    return made


def test_axes_are_the_longest_principal_ones_each_over_its_variance_to_the_3_8() -> None:
    """Independent coordinates of known spread: axis k is coordinate k."""
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 4)
    spreads = torch.tensor([0.5, 4.0, 1.0, 2.0])
    axes = Axes.fitted(signs * spreads + 7.0, 2)
    torch.testing.assert_close(axes.centre, torch.full((4,), 7.0))
    variances = torch.tensor([16.0, 4.0]) + 1e-4 * 21.25
    expected = torch.zeros(4, 2)
    expected[1, 0], expected[3, 1] = variances.pow(-0.375)
    torch.testing.assert_close(axes.directions.abs(), expected, rtol=1e-4, atol=1e-5)


def test_projected_rows_have_norm_one_or_zero_whatever_they_are() -> None:
    axes = Axes.fitted(torch.randn(50, 5, generator=torch.Generator().manual_seed(0)), 3)
    rows = torch.stack([torch.ones(5), 1e10 * torch.ones(5), torch.full((5,), torch.nan)])
    found = axes.project(torch.cat([rows, axes.centre[None]]))
    torch.testing.assert_close(found.norm(dim=1), torch.tensor([1.0, 1.0, 0.0, 0.0]))


def test_logits_are_linear_in_the_projected_features() -> None:
    judge = labeller()
    x = images()
    p = Axes(judge.centre, judge.directions).project(CONFIG.features(x))
    torch.testing.assert_close(judge(x), p @ judge.weights + judge.bias)
    assert torch.equal(judge.label(x), judge(x).argmax(1))


def test_an_images_logits_do_not_depend_on_the_others() -> None:
    x = images()
    changed = x.clone()
    changed[1:] = torch.nan
    judge = labeller()
    assert torch.equal(judge(changed)[0], judge(x)[0])
    torch.testing.assert_close(judge(x[2:3])[0], judge(x)[2], rtol=1e-4, atol=1e-5)


def test_nothing_in_it_is_trained_and_gradients_reach_the_image() -> None:
    judge, x = labeller(), images().requires_grad_()
    assert not list(judge.parameters())
    judge(x)[:, 0].sum().backward()
    assert x.grad is not None and (x.grad.flatten(1).norm(dim=1) > 0).all()


def test_its_numbers_survive_json_and_its_state_a_new_module() -> None:
    judge = labeller()
    numbers = json.loads(json.dumps(plain(dataclasses.asdict(CONFIG))))
    assert from_dict(LabellerConfig, numbers) == CONFIG
    again = Labeller(from_dict(LabellerConfig, numbers))
    again.load_state_dict(judge.state_dict())
    assert torch.equal(again(images()), judge(images()))


def test_parts_are_put_together_in_order() -> None:
    sizes = []

    def doubled(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return 2 * x

    rows = torch.arange(1203.0)
    assert torch.equal(in_parts(doubled, rows), 2 * rows)
    assert sizes == [500, 500, 203]
