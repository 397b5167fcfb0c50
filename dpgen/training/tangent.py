"""Tangent and normal adversarial moves of images, and the loss of a student under them.

For a student S and an image x let F(r) = KL(S(x) || S(x + r)). F and its gradient vanish at 0; H is
its Hessian there, and

    H v = grad F(h v) / h + O(h)

J is the Jacobian of an autoencoder's decoder at the code of x: its columns span the directions
along the manifold of images. The moves that change the student's answer most, along the manifold
and off it, are

    r_t = e_t J eta / ||J eta||    eta maximises eta' J'H J eta where eta' J'J eta = 1
    r_n = e_n v / ||v||            v maximises v'H v, without its part along r_t

Each maximiser is sought by power steps from a random start: eta <- (J'J)^-1 J'H J eta, by conjugate
gradients, and v <- H v. The student descends F(r_t) + F(r_n) + entropy(S(x)), with S(x) on the left
of the divergence held fixed: its answer is to stay along the manifold and just off it, and to be
sure.

Reference: Yu, Wu, Ma, Sun, Zhu (2019), "Tangent-Normal Adversarial Regularization for
Semi-supervised Learning", arXiv 1808.06088.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import grad

from dpgen.networks.vae import VAE
from dpgen.training.manifold_settings import ManifoldSettings

Network = Callable[[Tensor], Tensor]
Product = Callable[[Tensor], Tensor]
USUAL_SIZE = 28 * 28  # pixel values of the images for which lengths of moves are stated
SHORT = 1e-2  # h, for v of length one


@dataclass(frozen=True)
class TangentNormal:
    """Computes the loss of a student on images that need no labels.

    Args:
        vae: the manifold of images, on their device; it is not changed.
        settings: the numbers.
        generator: CPU generator of the random starts.
    """

    vae: VAE
    settings: ManifoldSettings
    generator: torch.Generator

    def __call__(self, student: Network, images: Tensor) -> Tensor:
        """Computes the mean loss over images (B, C, H, W)."""
        s = self.settings
        logits = student(images)
        loss = s.entropy_weight * entropy(logits)
        for weight, move in zip(
            (s.tangent_weight, s.normal_weight), self.moves(student, images), strict=True
        ):
            if weight > 0:
                loss = loss + weight * divergence(logits.detach(), student(images + move))
        return loss.mean()

    def moves(self, student: Network, images: Tensor) -> tuple[Tensor, Tensor]:
        """Finds r_t and r_n of images (B, C, H, W), of their shape."""
        s, scale = self.settings, math.sqrt(images[0].numel() / USUAL_SIZE)
        with torch.no_grad():
            codes = self.vae.encode(images)[0]
        first = torch.randn(codes.shape, generator=self.generator).to(codes)
        hessian = curvature(student, images)
        jacobian = Jacobian(self.vae.decode, codes)
        along = tangent(hessian, jacobian, first, n_conjugate=s.n_conjugate)
        start = torch.randn(images.shape, generator=self.generator).to(images)
        off = normal(hessian, along, start)
        return s.tangent * scale * along, s.normal * scale * off


class Jacobian:
    """The Jacobian J of a function at given points, one for each row: exact products with it.

    Args:
        function: maps points (B, L) to values (B, ...), row by row.
        points: (B, L).
    """

    def __init__(self, function: Network, points: Tensor) -> None:
        self._points = points.detach().requires_grad_()
        self._values = function(self._points)
        # J'u is linear in u, so that its gradient by u along eta is J eta: two backward passes in
        # place of a forward one take a third of its time here.
        self._u = torch.zeros_like(self._values, requires_grad=True)
        self._back = grad(self._values, self._points, self._u, create_graph=True)[0]

    def forth(self, eta: Tensor) -> Tensor:
        """Computes J eta, (B, ...), for eta of shape (B, L)."""
        return grad(self._back, self._u, eta, retain_graph=True)[0]

    def back(self, u: Tensor) -> Tensor:
        """Computes J'u, (B, L), for u of shape (B, ...)."""
        return grad(self._values, self._points, u, retain_graph=True)[0]


def divergence(logits: Tensor, moved: Tensor) -> Tensor:
    """Computes KL(softmax logits || softmax moved) of each row of (B, K)."""
    before, after = logits.log_softmax(1), moved.log_softmax(1)
    return (before.exp() * (before - after)).sum(1)


def entropy(logits: Tensor) -> Tensor:
    """Computes the entropy of the softmax of each row of (B, K), in nats."""
    logs = logits.log_softmax(1)
    return -(logs.exp() * logs).sum(1)


def curvature(student: Network, images: Tensor, short: float = SHORT) -> Product:
    """Returns v -> H v for v of the shape of the images, row by row; ``short`` is h."""
    with torch.no_grad():
        logits = student(images)

    def product(v: Tensor) -> Tensor:
        length = dot(v, v).sqrt()
        moved = (images + short * unit(v)).detach().requires_grad_()
        slope = grad(divergence(logits, student(moved)).sum(), moved)[0]
        return slope * length / short

    return product


def tangent(
    hessian: Product, jacobian: Jacobian, start: Tensor, *, n_conjugate: int, n_power: int = 1
) -> Tensor:
    """Returns J eta / ||J eta||, of the shape of the images; zero where the student is flat.

    Args:
        hessian: v -> H v.
        jacobian: J.
        start: the first eta, (B, L).
        n_conjugate: steps of conjugate gradients in each power step.
        n_power: power steps.
    """
    eta = start
    for _ in range(n_power):
        bent = jacobian.back(hessian(jacobian.forth(eta)))
        eta = conjugate_gradients(lambda d: jacobian.back(jacobian.forth(d)), bent, n_conjugate)
        eta = unit(eta)
    return unit(jacobian.forth(eta))


def normal(hessian: Product, along: Tensor, start: Tensor, *, n_power: int = 1) -> Tensor:
    """Returns v / ||v||, of the shape of the images, orthogonal to ``along``; zero where the
    student is flat.

    Args:
        hessian: v -> H v.
        along: directions of length one, or zero.
        start: the first v.
        n_power: power steps.
    """
    v = start
    for _ in range(n_power):
        v = unit(hessian(v))
        v = unit(v - dot(v, along) * along)
    return v


def conjugate_gradients(product: Product, b: Tensor, n_steps: int) -> Tensor:
    """Solves M x = b for each row of b, (B, L), beginning at 0: exactly after L steps.

    Args:
        product: v -> M v, M symmetric and positive.
        b: the right sides.
        n_steps: steps; a row that is solved stays as it is.

    Reference: Hestenes, Stiefel (1952), "Methods of Conjugate Gradients for Solving Linear
    Systems".
    """
    x, residual, direction = torch.zeros_like(b), b, b
    square = dot(residual, residual)
    for _ in range(n_steps):
        image = product(direction)
        step = _ratio(square, dot(direction, image))
        x, residual = x + step * direction, residual - step * image
        left = dot(residual, residual)
        direction = residual + _ratio(left, square) * direction
        square = left
    return x


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Computes the inner product of each pair of rows, (B, ...); its other sides are 1."""
    return (a * b).flatten(1).sum(1).reshape(-1, *[1] * (a.ndim - 1))


def unit(v: Tensor) -> Tensor:
    """Divides each row of v, (B, ...), by its length; a row of zeros stays so."""
    return _ratio(v, dot(v, v).sqrt())


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(b > 0, a / torch.where(b > 0, b, 1), 0)
