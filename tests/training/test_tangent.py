"""Moves of images along and off a manifold, where student and decoder are so simple that they are
known in closed form.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from dpgen.networks.vae import VAE, VAEConfig
from dpgen.training.manifold_settings import ManifoldSettings
from dpgen.training.tangent import (
    Jacobian,
    TangentNormal,
    conjugate_gradients,
    curvature,
    divergence,
    dot,
    entropy,
    normal,
    tangent,
    unit,
)

SHAPE, N, L, K = (1, 4, 4), 16, 3, 5
B = 6

pytestmark = pytest.mark.usefixtures("one_thread")


class Linear(nn.Module):
    """Logits A x + c, and images W z."""

    def __init__(self) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        self.a = torch.randn(K, N, generator=rng, dtype=torch.float64) / 2
        self.c = torch.randn(K, generator=rng, dtype=torch.float64)
        self.w = torch.randn(N, L, generator=rng, dtype=torch.float64)
        self.images = torch.randn(B, *SHAPE, generator=rng, dtype=torch.float64)
        self.codes = torch.randn(B, L, generator=rng, dtype=torch.float64)
        self.start = torch.randn(B, *SHAPE, generator=rng, dtype=torch.float64)

    def student(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.a.T + self.c

    def decode(self, z: Tensor) -> Tensor:
        return (z @ self.w.T).reshape(-1, *SHAPE)

    def hessian(self) -> Tensor:
        """A' (diag p - p p') A of every image, (B, N, N)."""
        p = self.student(self.images).softmax(1)
        return self.a.T @ (torch.diag_embed(p) - p[:, :, None] * p[:, None]) @ self.a


@pytest.fixture
def linear() -> Linear:
    return Linear()


def test_products_with_the_hessian_are_those_of_its_closed_form_up_to_the_step(
    linear: Linear,
) -> None:
    v = 3 * linear.start
    exact = (linear.hessian() @ v.flatten(1)[:, :, None]).squeeze(2)
    errors = [
        (curvature(linear.student, linear.images, h)(v).flatten(1) - exact).abs().max().item()
        for h in (1e-2, 1e-3, 1e-5)
    ]
    size = exact.abs().max().item()
    assert errors[0] < 0.02 * size and errors[2] < 1e-4 * size
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.05), "of the first order in the step"


def test_products_with_a_jacobian_are_those_of_the_matrix(linear: Linear) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(L, 8), nn.Tanh(), nn.Linear(8, N)).double()
    jacobian = Jacobian(network, linear.codes)
    whole = torch.stack([
        torch.autograd.functional.jacobian(network, code) for code in linear.codes
    ])  # fmt: skip
    eta, u = linear.codes.flip(0), linear.images.flatten(1)
    assert torch.allclose(jacobian.forth(eta), (whole @ eta[:, :, None]).squeeze(2))
    assert torch.allclose(jacobian.back(u), (u[:, None] @ whole).squeeze(1))


def test_conjugate_gradients_solve_in_as_many_steps_as_there_are_unknowns(linear: Linear) -> None:
    rng = torch.Generator().manual_seed(3)
    root = torch.randn(B, L, 2 * L, generator=rng, dtype=torch.float64)
    matrices, b = root @ root.mT, linear.codes.clone()
    b[1] = 0

    def solved(n_steps: int) -> Tensor:
        return conjugate_gradients(lambda v: (matrices @ v[:, :, None]).squeeze(2), b, n_steps)

    exact = torch.linalg.solve(matrices, b)
    assert torch.allclose(solved(L), exact) and torch.allclose(solved(L + 3), exact)
    assert not torch.allclose(solved(1), exact) and not solved(1)[1].any()


def test_the_tangent_lies_in_the_range_of_the_jacobian_and_power_steps_find_the_most_of_it(
    linear: Linear,
) -> None:
    """The top eigenvector of (J'J)^-1 J'H J; and where nothing bends, no move."""
    hessian, w = linear.hessian(), linear.w
    product = curvature(linear.student, linear.images, 1e-6)
    jacobian = Jacobian(linear.decode, linear.codes)
    found = {
        n: tangent(product, jacobian, linear.codes, n_conjugate=L, n_power=n).flatten(1)
        for n in (1, 200)
    }
    projection = w @ torch.linalg.solve(w.T @ w, w.T)
    values, vectors = torch.linalg.eig(torch.linalg.solve(w.T @ w, w.T @ hessian @ w))
    tops = vectors.real[torch.arange(B), :, values.real.argmax(1)] @ w.T
    for n, r in found.items():
        assert torch.allclose(r.norm(dim=1), torch.ones(B).double()), n
        assert torch.allclose(r @ projection, r), n
    alike = (unit(tops) * found[200]).sum(1).abs()
    assert torch.allclose(alike, torch.ones(B).double(), atol=1e-6)
    bent = {n: (r[:, None] @ hessian @ r[:, :, None]).flatten() for n, r in found.items()}
    at_start = linear.decode(linear.codes)
    first = dot(at_start, product(at_start)) / dot(at_start, at_start)
    assert (bent[1] > first.flatten()).all() and (bent[200] >= bent[1]).all()
    flat = curvature(lambda x: 0 * linear.student(x), linear.images)
    assert not tangent(flat, jacobian, linear.codes, n_conjugate=L).any()
    assert not normal(flat, torch.zeros_like(linear.images), linear.start).any()


def test_the_normal_is_orthogonal_to_the_tangent_and_bends_most_of_all_that_is(
    linear: Linear,
) -> None:
    along = unit(linear.decode(linear.codes))
    product = curvature(linear.student, linear.images, 1e-6)
    once, often = (normal(product, along, linear.start, n_power=n) for n in (1, 200))
    for r in (once, often):
        assert torch.allclose(dot(r, r), torch.ones(()).double())
        assert dot(r, along).abs().max() < 1e-12
    hessian, t = linear.hessian(), along.flatten(1)
    apart = torch.eye(N).double() - t[:, :, None] * t[:, None]
    tops = torch.linalg.eigh(apart @ hessian @ apart).eigenvectors[:, :, -1]
    assert torch.allclose((tops * often.flatten(1)).sum(1).abs(), torch.ones(B).double())


def test_divergence_and_entropy_are_what_their_formulas_say(linear: Linear) -> None:
    p = torch.tensor([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3]]).double()
    q = torch.tensor([[0.125, 0.5, 0.375], [1 / 3, 1 / 3, 1 / 3]]).double()
    expected = 0.5 * math.log(4) - 0.25 * math.log(2) + 0.25 * math.log(2 / 3)
    assert divergence(p.log() + 7, q.log()).tolist() == pytest.approx([expected, 0])
    assert entropy(p.log() - 3).tolist() == pytest.approx([1.5 * math.log(2), math.log(3)])


def test_the_loss_is_the_sum_of_its_terms_at_the_moves_and_their_lengths_fit_the_pixels() -> None:
    torch.manual_seed(0)
    vae = VAE(VAEConfig((1, 8, 8), n_latents=4)).double().requires_grad_(False)
    student = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, K)).double()
    images = torch.rand(B, 1, 8, 8).double() * 2 - 1
    settings = ManifoldSettings(tangent_weight=2.0, normal_weight=3.0, entropy_weight=0.5)

    def term(given: ManifoldSettings) -> TangentNormal:
        return TangentNormal(vae, given, torch.Generator().manual_seed(4))

    along, off = term(settings).moves(student, images)
    scale = math.sqrt(64 / 784)
    lengths = [move.flatten(1).norm(dim=1) for move in (along, off)]
    for length, expected in zip(lengths, (1.0, 0.5), strict=True):
        assert torch.allclose(length, torch.full((B,), expected * scale).double())
    assert dot(along, off).abs().max() < 1e-12
    logits = student(images)
    expected = (
        2 * divergence(logits, student(images + along))
        + 3 * divergence(logits, student(images + off))
        + 0.5 * entropy(logits)
    ).mean()
    assert term(settings)(student, images).item() == pytest.approx(expected.item())
    sure = replace(settings, tangent_weight=0.0, normal_weight=0.0)
    assert term(sure)(student, images).item() == pytest.approx(entropy(logits).mean().item() / 2)


def test_a_step_makes_the_student_change_less_along_the_manifold() -> None:
    torch.manual_seed(0)
    vae = VAE(VAEConfig((1, 8, 8), n_latents=4)).requires_grad_(False)
    student = nn.Sequential(nn.Flatten(), nn.Linear(64, K))
    images = torch.rand(B, 1, 8, 8) * 2 - 1
    settings = ManifoldSettings(normal_weight=0.0, entropy_weight=0.0)
    loss_fn = TangentNormal(vae, settings, torch.Generator().manual_seed(4))
    descent = torch.optim.SGD(student.parameters(), lr=1.0)
    losses = []
    for _ in range(20):
        loss = loss_fn(student, images)
        descent.zero_grad()
        loss.backward()
        descent.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert all(p.grad is None for p in vae.parameters())


def test_settings_of_the_manifold_that_make_no_sense_are_refused() -> None:
    for name, value in (
        ("n_images", 0), ("n_latents", 0), ("n_conjugate", 0), ("spread", 0.0),
        ("tangent", math.inf), ("normal", 0.0), ("entropy_weight", -1.0),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"{name} of the manifold must be"):
            ManifoldSettings(**{name: value})  # type: ignore[arg-type]
    off = ManifoldSettings(tangent_weight=0.0, normal_weight=0.0, entropy_weight=0.0)
    assert not off.regularises and ManifoldSettings().regularises
