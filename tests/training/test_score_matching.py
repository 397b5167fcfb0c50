"""Losses of a score against closed forms: all sign vectors, quadratic energies, differences."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from dpgen.networks.denoiser import Denoiser, DenoiserConfig
from dpgen.privacy.mechanisms.clipping import add_clipped, zero_sum
from dpgen.privacy.mechanisms.draws import KEY_BYTES, Draws
from dpgen.stages.denoising import DenoisingObjective
from dpgen.training.denoising import NoiseLevels, score_weight
from dpgen.training.score_matching import (
    LOSSES,
    denoising,
    find,
    signs,
    sliced,
    sliced_denoising,
    variance_reduced,
)
from samplers import score_from_denoised

pytestmark = pytest.mark.usefixtures("one_thread")

D = 4
SIGNS = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=D)), dtype=torch.float64)
N_SIGNS = len(SIGNS)


@pytest.fixture
def normal() -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


def quadratic(a: Tensor, m: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The score -A (x - m) of a quadratic energy; A need not be symmetric."""
    return lambda x, sigma: -(x.flatten(1) - m) @ a.T


def curved(x: Tensor, sigma: Tensor) -> Tensor:
    """A score with another Jacobian everywhere, not symmetric, that looks at sigma."""
    turned = x.flatten(1).roll(1, 1)
    return (torch.sin(2 * turned) - turned**2 / (1 + sigma[:, None])).reshape(x.shape)


def over_all_signs(
    loss: Callable[..., Tensor], score: Callable[..., Tensor], x: Tensor, sigma: float, z: Tensor
) -> Tensor:
    """The exact average over Rademacher projections."""
    levels = torch.full((N_SIGNS,), sigma, dtype=torch.float64)
    return loss(score, x, levels, z.expand(N_SIGNS, D), SIGNS).mean()


def test_over_all_signs_sliced_is_the_trace_and_half_the_square(
    normal: Callable[..., Tensor],
) -> None:
    a, m, x, z, sigma = normal(D, D), normal(D), normal(D), normal(D), 0.6
    score = -a @ (x + sigma * z - m)
    exact = -a.trace() + score.square().sum() / 2
    for loss in (sliced, variance_reduced):
        found = over_all_signs(loss, quadratic(a, m), x, sigma, z)
        torch.testing.assert_close(found, exact, rtol=1e-12, atol=1e-12)


def test_each_sign_vector_gives_the_quadratic_form_of_the_jacobian(
    normal: Callable[..., Tensor],
) -> None:
    a, m, x = normal(D, D), normal(D), normal(D)
    z, sigma = normal(N_SIGNS, D), normal(N_SIGNS).exp()
    score = -(x + sigma[:, None] * z - m) @ a.T
    form = -torch.einsum("ni,ij,nj->n", SIGNS, a, SIGNS)
    along = (SIGNS * score).sum(1)
    torch.testing.assert_close(
        sliced(quadratic(a, m), x, sigma, z, SIGNS), form + along.square() / 2
    )
    torch.testing.assert_close(
        variance_reduced(quadratic(a, m), x, sigma, z, SIGNS),
        form + score.square().sum(1) / 2,
    )
    torch.testing.assert_close(
        sliced_denoising(quadratic(a, m), x, sigma, z, SIGNS),
        (along + (SIGNS * z).sum(1) / sigma).square(),
    )


def test_over_all_signs_sliced_is_variance_reduced_for_any_score(
    normal: Callable[..., Tensor],
) -> None:
    x, z = normal(D), normal(D)
    one = over_all_signs(sliced, curved, x, 0.4, z)
    other = over_all_signs(variance_reduced, curved, x, 0.4, z)
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_over_all_signs_sliced_denoising_is_denoising(normal: Callable[..., Tensor]) -> None:
    for sigma in (0.01, 0.4, 30.0):
        x, z = normal(D), normal(D)
        level = torch.tensor([sigma], dtype=torch.float64)
        exact = denoising(curved, x, level, z[None])[0]
        found = over_all_signs(sliced_denoising, curved, x, sigma, z)
        torch.testing.assert_close(found, exact, rtol=1e-12, atol=0)


def test_trace_of_a_score_that_bends_is_found_at_the_noisy_point(
    normal: Callable[..., Tensor],
) -> None:
    x, z, sigma = normal(D), normal(D), torch.tensor([0.7], dtype=torch.float64)
    noisy = x + 0.7 * z
    jacobian = torch.autograd.functional.jacobian(lambda t: curved(t[None], sigma)[0], noisy)
    exact = jacobian.trace() + curved(noisy[None], sigma).square().sum() / 2
    found = over_all_signs(variance_reduced, curved, x, 0.7, z)
    torch.testing.assert_close(found, exact, rtol=1e-12, atol=1e-12)


def test_implicit_and_denoising_losses_differ_by_a_constant_in_expectation(
    normal: Callable[..., Tensor],
) -> None:
    """E over z of a quadratic is exact on the cubature points +- sqrt(d) e_i: no Monte Carlo."""
    a, m, x, sigma = normal(D, D), normal(D), normal(D), 0.8
    points = D**0.5 * torch.cat([torch.eye(D), -torch.eye(D)]).double()
    z = points.repeat_interleave(N_SIGNS, 0)
    v = SIGNS.repeat(2 * D, 1)
    levels = torch.full((len(z),), sigma, dtype=torch.float64)
    for score in (quadratic(a, m), quadratic(2 * a, m + 1)):
        target = denoising(score, x, levels, z).mean() - D / sigma**2
        for loss in (sliced, variance_reduced):
            found = 2 * loss(score, x, levels, z, v).mean()
            torch.testing.assert_close(found, target, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("name", LOSSES)
def test_the_score_of_blurred_gaussian_data_minimises_every_loss(
    name: str, normal: Callable[..., Tensor]
) -> None:
    """At the truth the average gradient by (A, m) is zero up to its own standard error; away from
    it, it is not."""
    n, sigma = 40_000, 0.5
    root, mean = 0.5 * normal(D, D), normal(D)
    x, z = mean + normal(n, D) @ root.T, normal(n, D)
    v = SIGNS[torch.randint(N_SIGNS, (n,), generator=torch.Generator().manual_seed(1))]
    levels = torch.full((n,), sigma, dtype=torch.float64)
    precision = torch.linalg.inv(root @ root.T + sigma**2 * torch.eye(D).double())

    def gradients(a: Tensor, m: Tensor) -> Tensor:
        def one(numbers: tuple[Tensor, Tensor], *draw: Tensor) -> Tensor:
            x, level, z, v = (t[None] for t in draw)
            projection = v if LOSSES[name].projects else None
            return LOSSES[name](quadratic(*numbers), x, level, z, projection).sum()

        rows = vmap(grad(one), in_dims=(None, 0, 0, 0, 0))((a, m), x, levels, z, v)
        return torch.cat([part.flatten(1) for part in rows], 1)

    at_truth = gradients(precision, mean)
    # Twenty means of n rows: six standard errors are passed once in 2e7 such tests.
    assert (at_truth.mean(0).abs() < 6 * at_truth.std(0) / n**0.5).all()
    away = gradients(precision + 0.2 * torch.eye(D).double(), mean + 0.3)
    assert ((away.mean(0).abs() / (away.std(0) / n**0.5)) > 6).any()


def test_scaled_losses_share_one_expected_gradient(normal: Callable[..., Tensor]) -> None:
    a, m, x, sigma = normal(D, D), normal(D), normal(D), 0.8
    points = D**0.5 * torch.cat([torch.eye(D), -torch.eye(D)]).double()
    z, v = points.repeat_interleave(N_SIGNS, 0), SIGNS.repeat(2 * D, 1)
    levels = torch.full((len(z),), sigma, dtype=torch.float64)

    def gradient(name: str) -> Tensor:
        projection = v if LOSSES[name].projects else None
        return grad(lambda a: LOSSES[name](quadratic(a, m), x, levels, z, projection).mean())(a)

    expected = gradient("denoising")
    assert expected.norm() > 1
    for name in LOSSES:
        torch.testing.assert_close(gradient(name), expected, rtol=1e-10, atol=1e-10)


def test_the_table_has_every_loss_under_its_own_name(normal: Callable[..., Tensor]) -> None:
    x, sigma, z, v = normal(D), normal(N_SIGNS).exp(), normal(N_SIGNS, D), SIGNS
    expected = {
        "denoising": denoising(curved, x, sigma, z),
        "sliced-denoising": sliced_denoising(curved, x, sigma, z, v),
        "sliced": 2 * sliced(curved, x, sigma, z, v),
        "variance-reduced": 2 * variance_reduced(curved, x, sigma, z, v),
    }
    assert set(expected) == set(LOSSES)
    for name, loss in LOSSES.items():
        found = loss(curved, x, sigma, z, v if loss.projects else None)
        torch.testing.assert_close(found, expected[name])


def test_projections_are_independent_signs() -> None:
    drawn = signs(np.random.default_rng(0), (20_000, 2, 3)).reshape(20_000, 6).astype(float)
    assert set(np.unique(drawn)) == {-1.0, 1.0}
    # Means of 20,000 signs or products of two: 6 standard errors.
    assert np.abs(drawn.mean(0)).max() < 6 / 20_000**0.5
    second = drawn.T @ drawn / len(drawn)
    assert np.abs(second - np.eye(6)).max() < 6 / 20_000**0.5


def test_no_loss_leaves_a_trace_on_the_tensors_it_is_given(normal: Callable[..., Tensor]) -> None:
    x, sigma, z, v = normal(D), normal(2).exp(), normal(2, D), SIGNS[:2].clone()
    given = (x, sigma, z, v)
    copies = [t.clone() for t in given]
    for loss in LOSSES.values():
        loss(curved, x, sigma, z, v if loss.projects else None)
        assert not any(t.requires_grad or t.grad_fn is not None for t in given)
        assert all(torch.equal(t, copy) for t, copy in zip(given, copies, strict=True))


def test_unknown_losses_and_projections_out_of_place_are_refused(
    normal: Callable[..., Tensor],
) -> None:
    with pytest.raises(ValueError, match="loss must be one of denoising, .*, got 'slice'"):
        find("slice")
    x, sigma, z = normal(D), normal(2).exp(), normal(2, D)
    with pytest.raises(ValueError, match="denoising takes no projection"):
        LOSSES["denoising"](curved, x, sigma, z, SIGNS[:2])
    with pytest.raises(ValueError, match="sliced takes a projection"):
        LOSSES["sliced"](curved, x, sigma, z, None)


# The losses of a record, with a network behind the score.

SHAPE, N_CLASSES, N_RECORDS = (1, 16, 16), 3, 3
# Attention on the inner level and in the middle, a Gaussian underneath that is also an input.
CONFIG = DenoiserConfig(SHAPE, N_CLASSES, (8, 8), 1, (1,), 4, prior_bands=4, prior_input=True)


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    """In float64, every weight moved, so that none of its gradients is zero."""
    generator = torch.Generator().manual_seed(1)
    network = Denoiser(CONFIG).double()
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.05 * noise)
    return network


Batch = tuple[Tensor, Tensor, dict[str, Tensor]]


def batch(loss: str, seed: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    asked = DenoisingObjective(Denoiser(CONFIG), NoiseLevels(n_draws=2), loss)
    draws = asked.draw(Draws(bytes(KEY_BYTES), 10 * seed + np.arange(N_RECORDS)))
    draws = {k: t.double() if t.is_floating_point() else t for k, t in draws.items()}
    draws["drop"] = torch.tensor([False, True, False])
    pixels = torch.rand(N_RECORDS, *SHAPE, generator=generator, dtype=torch.float64) * 2 - 1
    return pixels, torch.arange(N_RECORDS) % N_CLASSES, draws


def row(made: Batch, i: int) -> Batch:
    pixels, labels, draws = made
    return pixels[i], labels[i], {k: t[i] for k, t in draws.items()}


def released(denoiser: Denoiser) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in denoiser.named_parameters()}


def test_weighted_denoising_is_the_edm_loss(denoiser: Denoiser) -> None:
    """lambda ||D - x||^2 / (C H W), written out as Karras et al. have it."""
    parameters, made = released(denoiser), batch("denoising")
    ours = DenoisingObjective(denoiser, NoiseLevels()).loss
    for i in range(N_RECORDS):
        pixels, label, draws = row(made, i)
        sigma = draws["sigma"]
        shown = torch.where(draws["drop"], N_CLASSES, label).expand(2)
        noisy = pixels + sigma[:, None, None, None] * draws["noise"]
        denoised = functional_call(denoiser, parameters, (noisy, sigma, shown))
        edm = (sigma**2 + 0.25) / (0.5 * sigma) ** 2
        expected = (edm * (denoised - pixels).square().flatten(1).mean(1)).mean()
        found = ours(parameters, pixels, label, draws)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)


def test_weighted_denoising_is_the_edm_loss_in_float32_at_every_level_that_is_drawn() -> None:
    """Cancellation in s + z / sigma costs digits at small sigma: few enough."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, 1, 8, 8, generator=generator) * 2 - 1
    z = torch.randn(1, 1, 8, 8, generator=generator)
    config = DenoiserConfig((1, 8, 8), 1, (8,), 1, (), 8)
    # Six standard deviations of ln sigma to either side.
    for level in (-0.4 - 6 * 1.3, -0.4, -0.4 + 6 * 1.3):
        sigma = torch.tensor([level]).exp()
        error = 0.3 * sigma / (1 + sigma)  # an estimate that is better where there is less noise
        weight = score_weight(sigma, config)
        found = weight * denoising(
            lambda noisy, s, e=error: score_from_denoised(x + e, noisy, s), x, sigma, z
        )
        exact = (sigma**2 + 0.25) / (0.5 * sigma) ** 2 * error**2
        # x~, of size 4 (1 + sigma), is rounded at 2^-24, and so are the two terms that cancel; a
        # square doubles that.
        rtol = 2 * 3 * 2**-24 * 4 * float((1 + sigma) / error)
        torch.testing.assert_close(found, exact, rtol=rtol, atol=0)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_gradients_of_a_record_are_those_of_finite_differences(
    name: str, denoiser: Denoiser
) -> None:
    parameters, made = released(denoiser), batch(name)
    loss = DenoisingObjective(denoiser, NoiseLevels(), name).loss
    rows = vmap(grad(loss), in_dims=(None, 0, 0, 0), randomness="error")(parameters, *made)
    generator = torch.Generator().manual_seed(3)
    direction = {
        k: torch.randn(p.shape, generator=generator, dtype=torch.float64)
        for k, p in parameters.items()
    }
    length = sum(t.square().sum() for t in direction.values()).sqrt()
    direction = {k: t / length for k, t in direction.items()}
    for i in range(N_RECORDS):
        slope = sum((rows[k][i] * direction[k]).sum() for k in parameters)

        def at(step: float, i: int = i) -> Tensor:
            moved = {k: p + step * direction[k] for k, p in parameters.items()}
            return loss(moved, *row(made, i))

        # Richardson on central differences: the error is of order h^4, far below rounding / h.
        h = 1e-3
        coarse, fine = ((at(s) - at(-s)) / (2 * s) for s in (2 * h, h))
        expected = (4 * fine - coarse) / 3
        assert abs(slope - expected) < 1e-6 * max(1.0, abs(expected))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_a_record_keeps_its_gradient_when_another_record_changes(
    name: str, denoiser: Denoiser
) -> None:
    parameters, one, other = released(denoiser), batch(name), batch(name, seed=5)
    loss = DenoisingObjective(denoiser, NoiseLevels(), name).loss
    mixed = (
        torch.cat([one[0][:1], other[0][1:]]),
        one[1].roll(0).where(torch.arange(N_RECORDS) < 1, other[1].roll(1)),
        {k: torch.cat([t[:1], other[2][k][1:]]) for k, t in one[2].items()},
    )
    before = vmap(grad(loss), in_dims=(None, 0, 0, 0))(parameters, *one)
    after = vmap(grad(loss), in_dims=(None, 0, 0, 0))(parameters, *mixed)
    for key in parameters:
        torch.testing.assert_close(after[key][0], before[key][0], rtol=1e-9, atol=1e-12)
    assert any(not torch.allclose(after[k][1], before[k][1]) for k in parameters)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_the_clipped_sum_is_that_of_a_loop_over_records(name: str, denoiser: Denoiser) -> None:
    parameters, made = released(denoiser), batch(name)
    loss = DenoisingObjective(denoiser, NoiseLevels(), name).loss
    clip_norm = 0.5
    total, looped = zero_sum(parameters), zero_sum(parameters)
    valid = torch.ones(N_RECORDS, dtype=torch.bool)
    add_clipped(total, loss, parameters, made, valid, clip_norm)
    leaves = {k: p.clone().requires_grad_() for k, p in parameters.items()}
    for i in range(N_RECORDS):
        found = torch.autograd.grad(loss(leaves, *row(made, i)), list(leaves.values()))
        norm = sum(g.square().sum() for g in found).sqrt()
        assert norm > clip_norm  # every record is clipped
        for key, g in zip(leaves, found, strict=True):
            looped[key] += g * clip_norm / norm
    # The clip holds a margin of 1e-5.
    for key in parameters:
        torch.testing.assert_close(total[key], looped[key], rtol=2e-5, atol=1e-9)


def test_only_losses_that_project_draw_projections_and_the_other_draws_stay() -> None:
    network, levels = Denoiser(CONFIG), NoiseLevels(n_draws=3)
    plain = DenoisingObjective(network, levels).draw(Draws(bytes(KEY_BYTES), np.arange(2)))
    assert set(plain) == {"sigma", "noise", "drop"}
    for name, loss in LOSSES.items():
        asked = DenoisingObjective(network, levels, name)
        drawn = asked.draw(Draws(bytes(KEY_BYTES), np.arange(2)))
        assert all(torch.equal(drawn[key], plain[key]) for key in plain)
        assert ("projection" in drawn) == loss.projects
        if loss.projects:
            projection = drawn["projection"]
            assert projection.shape == (2, 3, *SHAPE)
            assert not torch.equal(projection[:, 0], projection[:, 1])
            assert not torch.equal(projection[0], projection[1])
