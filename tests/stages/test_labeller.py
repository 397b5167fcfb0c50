"""The labeller is linear discriminant analysis when nothing is noised."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from dpgen.networks.fixed.gabor import GaborFeatures
from dpgen.networks.labeller import Axes, in_parts
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.stages import labeller
from dpgen.stages.labeller import LabelMoments, class_moments, covariance_within, fit

SHAPE, K, D = (1, 8, 8), 3, 6
GABOR = GaborFeatures(SHAPE, grid=4)


def images(n: int = 240, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Bars that are wider in one class than in the next, with noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % K
    x = 0.4 * torch.randn(n, *SHAPE, generator=generator) - 0.6
    for k in range(K):
        x[labels == k, :, :, 2 : 4 + k] += 1.0
    return x.clamp(-1, 1), labels


def released(noise: float = 0.0) -> tuple[LabelMoments, dict[str, Tensor], Tensor, Tensor]:
    pixels, labels = images()
    moments = LabelMoments(GABOR, K, D).along(Axes.fitted(in_parts(GABOR, pixels), D))
    generator = torch.Generator().manual_seed(1)
    tables = {}
    for name, block in moments(pixels, labels).items():
        table = torch.zeros(moments.tables[name], dtype=torch.float64)
        table.index_add_(0, block.rows, block.values)
        tables[name] = table + noise * torch.randn(
            table.shape, generator=generator, dtype=torch.float64
        )
    return moments, tables, pixels, labels


def test_without_noise_and_floor_it_is_scikit_learns_discriminant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(labeller, "FLOOR", 0.0)
    moments, tables, pixels, labels = released()
    found = fit(moments, tables, 1e-9, len(labels), pixels, labels)
    p = moments.project(pixels).double().numpy()
    # The pooled covariance over n, as ours; scikit-learn's default solver divides by n - K, which
    # changes no direction and only the scale of the logits.
    oracle = LinearDiscriminantAnalysis(solver="lsqr").fit(p, labels.numpy())
    ours = found(pixels).double().numpy()
    differences = ours[:, 1:] - ours[:, :1]
    theirs = oracle.decision_function(p)
    theirs = theirs[:, 1:] - theirs[:, :1]
    np.testing.assert_allclose(differences, theirs, rtol=2e-3, atol=2e-3)
    assert (found.label(pixels) == labels).float().mean() > 0.9


def test_a_records_blocks_together_never_exceed_the_bound() -> None:
    moments, _, pixels, labels = released()
    wild = torch.cat([pixels, torch.zeros(1, *SHAPE), 1e6 * pixels[:1]])
    blocks = moments(wild, torch.cat([labels, torch.zeros(2, dtype=torch.int64)])).values()
    norms = sum(b.values.square().sum(1) for b in blocks).sqrt()  # type: ignore[union-attr]
    assert float(norms.max()) <= moments.bound * (1 + 1e-6)
    assert float(norms[: len(pixels)].min()) > moments.bound * (1 - 1e-5)


def test_what_the_noise_hides_comes_from_the_samples() -> None:
    """Under overwhelming noise the covariance is that of the samples, and the weights follow it."""
    moments, tables, pixels, labels = released()
    within = covariance_within(moments.project(pixels).double(), labels, K)
    ridge = labeller.FLOOR * within.trace() / D
    found = fit(moments, tables, 1e6, len(labels), pixels, labels)
    means = class_moments(moments, tables, 1e6, len(labels)).means
    directions = torch.linalg.solve(within + ridge * torch.eye(D, dtype=torch.float64), means.T)
    cosine = torch.nn.functional.cosine_similarity(found.weights.double(), directions, dim=0)
    assert float(cosine.min()) > 0.99


@pytest.mark.parametrize("also_squares", [False, True])
def test_what_the_noise_is_known_to_do_is_taken_out_and_the_rest_is_priced(
    also_squares: bool,
) -> None:
    """Over many draws of the noise the covariance errs by nothing on average, and in the mean
    square by the variance that is stated.
    """
    noise, n = 3.0, 2000
    moments, tables, _, labels = released()
    exact = class_moments(moments, tables, 0.0, len(labels))
    generator = torch.Generator().manual_seed(2)
    errors, stated = [], []
    for _ in range(n):
        loud = {
            name: t + noise * torch.randn(t.shape, generator=generator, dtype=t.dtype)
            for name, t in tables.items()
        }
        # The counts are given: shrinking them has a law of its own.
        loud["sums"][:, -1] = tables["sums"][:, -1]
        if not also_squares:
            loud["squares"] = tables["squares"]
        found = class_moments(moments, loud, noise, len(labels))
        errors.append(found.covariance - exact.covariance)
        stated.append(found.variance)
    error, variance = torch.stack(errors), torch.stack(stated).mean()
    traces = error.diagonal(dim1=1, dim2=2).sum(1)
    assert abs(float(traces.mean())) < 4 * float(traces.std()) / n**0.5
    if not also_squares:
        variance = variance - class_variance(noise, len(labels))
    assert float(error.square().mean()) == pytest.approx(float(variance), rel=0.1)


def class_variance(noise: float, n_records: int) -> float:
    """Of an entry of the second moment alone: diagonal entries have twice the others'."""
    return (noise / math.sin(labeller.ANGLE) / n_records) ** 2 * (D + (D * D - D) / 2) / D**2


def test_axes_are_needed_first_and_are_no_setting() -> None:
    bare = LabelMoments(GABOR, K, D)
    with pytest.raises(RuntimeError, match="axes of released samples"):
        bare(*images(3))
    axes = Axes(torch.zeros(GABOR.n_features), torch.zeros(GABOR.n_features, D))
    assert NoisySum(bare, 1.0).settings == NoisySum(bare.along(axes), 1.0).settings
    with pytest.raises(ValueError, match="n_axes must lie in"):
        LabelMoments(GABOR, K, 10**6)


def test_classes_of_unequal_size_have_unequal_priors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Again scikit-learn's discriminant, whose priors are the shares of the records."""
    monkeypatch.setattr(labeller, "FLOOR", 0.0)
    pixels, labels = images(600)
    kept = (labels == 0) | (torch.arange(600) % 5 == 0)
    pixels, labels = pixels[kept], labels[kept]
    moments = LabelMoments(GABOR, K, D).along(Axes.fitted(in_parts(GABOR, pixels), D))
    tables = {}
    for name, block in moments(pixels, labels).items():
        table = torch.zeros(moments.tables[name], dtype=torch.float64)
        tables[name] = table.index_add_(0, block.rows, block.values)
    ours = fit(moments, tables, 1e-9, len(labels), pixels, labels)(pixels).double().numpy()
    p = moments.project(pixels).double().numpy()
    theirs = LinearDiscriminantAnalysis(solver="lsqr").fit(p, labels.numpy()).decision_function(p)
    np.testing.assert_allclose(
        ours[:, 1:] - ours[:, :1], theirs[:, 1:] - theirs[:, :1], rtol=2e-3, atol=2e-3
    )
