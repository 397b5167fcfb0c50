r"""Keeps a teacher's backdoor out of what is made of it without data.

A backdoor is a pattern with which a teacher takes any image for one class, as it was taught by
records that somebody poisoned. Two defences, both functions of released networks and of images that
they made:

Shuffling vaccine, for the generator. T' is the mean answer of copies of the teacher T, in each of
which the input channels of the later layers are permuted. What makes an image of its class is lost
in them; a trigger, which needs few channels, often is not. Where T' and T find the same class
likeliest, the generator ascends

    KL(T(x) || T'(x)).

Self-retrospection, for the student S. One perturbation d of all images x of a step ascends
KL(T(x) || T(x + d)), as a trigger would. With m = 1 for a few images and 0 for the others, S
descends

    g(d*, S) = mean KL(S(x) || S(x + m d*)),   d* a minimum of
    f(d, S) = -mean KL(S(x) || S(x + d)) + .001 ||d||^2,

also through d*, as if d were where gradient descent of f in S comes to rest:

    Phi(d, S) = d - r f_d(d, S),   v <- Phi_d' v + g_d, from 0,   gradient g_S + Phi_S' v.

On digits of which a tenth was poisoned, neither is reliable: the attack on students of two seeds
succeeded in 96 and 88 % of images without them, in 96 and 88 with the vaccine, 66 and 89 with
retrospection, 77 and 81 with both (`scripts/backdoor_table.py`). It did not reach students whose
generator began as a sketch of clean records.

References: Hong, Zeng, Yu, Lyu, Jia, Zhou (2023), "Revisiting Data-Free Knowledge Distillation with
Poisoned Teachers", arXiv 2306.02368, for both; Grazzi, Franceschi, Pontil, Salzo (2020), "On the
Iteration Complexity of Hypergradient Computation", arXiv 2006.16218, for the fixed point.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpgen.networks.labeller import Labeller, in_parts
from dpgen.networks.student import Student

N_COPIES, N_ATTEMPTS = 3, 8
TAIL, DEVIATIONS = 0.02, 3.0  # the share of images that must lie below so many deviations
N_PERTURBING, PERTURBING_RATE, FIRST = 10, 0.1, 1e-3  # steps of Adam; what they begin with
N_FIXED_POINT, FIXED_POINT_RATE = 5, 0.1  # r
PENALTY, PATCHED = 1e-3, 0.02


def divergences(wanted: Tensor, found: Tensor) -> Tensor:
    """Computes KL(softmax(wanted) || softmax(found)) of each row, (B, K), (B, K) -> (B,)."""
    parts = functional.kl_div(
        functional.log_softmax(found, 1), functional.log_softmax(wanted, 1), reduction="none",
        log_target=True,
    )  # fmt: skip
    return parts.sum(1)


@dataclass(frozen=True)
class Shuffled:
    """The mean answer of several networks, copies of one teacher with permuted channels."""

    networks: tuple[Labeller | Student, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """Computes logits (B, K) of images (B, C, H, W)."""
        answers, features = [], None
        for network in self.networks:
            if not isinstance(network, Labeller):
                answers.append(network(images))
                continue
            # Copies of a labeller have the same features, which take longer than all else.
            features = network.config.map(images) if features is None else features
            answers.append(network.answer(network.axes.coordinates(features)))
        return torch.stack(answers).mean(0)


def shuffled(
    teacher: Labeller | Student, permutation: Callable[[int], Tensor]
) -> Labeller | Student:
    """Returns a copy of a teacher with permuted channels.

    A student has them permuted before each convolution but the first; a labeller, whose features
    are fixed, between these and its linear layer. Cells of a channel stay in their places.

    Args:
        teacher: T; it is not changed.
        permutation: returns an order of so many channels, (n,).
    """
    found = copy.deepcopy(teacher).requires_grad_(False)
    with torch.no_grad():
        if isinstance(found, Labeller):
            order = _order_of_features(found.config.map.channels, permutation)
            order = order.to(found.centre.device)
            found.centre.copy_(found.centre[order])
            found.directions.copy_(found.directions[order])
            return found
        for layer in [one for one in found.modules() if isinstance(one, nn.Conv2d)][1:]:
            order = permutation(layer.in_channels).to(layer.weight.device)
            layer.weight.copy_(layer.weight[:, order])
    return found


def _order_of_features(
    channels: Sequence[tuple[int, int]], permutation: Callable[[int], Tensor]
) -> Tensor:
    """Returns the order of all features, (D,), in which channels are permuted among those with as
    many cells.
    """
    orders, first = [], 0
    for n_channels, n_cells in channels:
        places = first + torch.arange(n_channels * n_cells).reshape(n_channels, n_cells)
        orders.append(places[permutation(n_channels)].flatten())
        first += n_channels * n_cells
    return torch.cat(orders)


def has_tail(values: Tensor) -> bool:
    """Tells whether more than 2 % of divergences, (N,), are suspiciously small: their logarithm
    more than three standard deviations below the mean of all.
    """
    logs = values.double().clamp_min(1e-30).log10()
    below = logs < logs.mean() - DEVIATIONS * logs.std(unbiased=False)
    return float(below.double().mean()) > TAIL


@torch.no_grad()
def suspicious(
    teacher: Labeller | Student, images: Tensor, generator: torch.Generator
) -> Shuffled | None:
    """Returns shuffled copies of a teacher that tell some images from the others; None if eight
    attempts give none.

    Args:
        teacher: T.
        images: generated images, (N, C, H, W), hundreds of them.
        generator: CPU generator of the permutations.
    """
    wanted = in_parts(teacher, images)
    for _ in range(N_ATTEMPTS):
        copies = Shuffled(
            tuple(
                shuffled(teacher, lambda n: torch.randperm(n, generator=generator))
                for _ in range(N_COPIES)
            )
        )
        if has_tail(divergences(wanted, in_parts(copies, images))):
            return copies
    return None


def perturbation(teacher: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
    """Returns the perturbation of all images, (C, H, W), that changes the teacher's answers most:
    ten steps of Adam. They begin close to zero, where the divergence is least and has no slope.

    Args:
        teacher: T.
        images: x, (B, C, H, W).
        generator: CPU generator of the beginning.
    """
    first = FIRST * torch.randn(images.shape[1:], generator=generator)
    delta = first.to(images).requires_grad_()
    adam = torch.optim.Adam([delta], lr=PERTURBING_RATE)
    with torch.no_grad():
        wanted = teacher(images)
    for _ in range(N_PERTURBING):
        (slope,) = torch.autograd.grad(-divergences(wanted, teacher(images + delta)).mean(), delta)
        delta.grad = slope
        adam.step()
    return delta.detach()


def hypergradient(
    inner: Callable[[Tensor], Tensor],
    outer: Callable[[Tensor], Tensor],
    delta: Tensor,
    parameters: Sequence[Tensor],
    n_steps: int = N_FIXED_POINT,
) -> list[Tensor]:
    """Computes the gradient of ``outer`` by the parameters, also through ``delta``, which descends
    ``inner``.

    Args:
        inner: f, a function of ``delta`` and, unseen, of the parameters.
        outer: g, likewise.
        delta: where f is taken for minimal.
        parameters: by what is differentiated.
        n_steps: steps of the fixed point; 0 leaves out what comes through ``delta``.
    """
    delta = delta.detach().requires_grad_()
    own, *direct = torch.autograd.grad(outer(delta), [delta, *parameters])
    (slope,) = torch.autograd.grad(inner(delta), delta, create_graph=True)
    moved, v = delta - FIXED_POINT_RATE * slope, torch.zeros_like(delta)
    for _ in range(n_steps):
        (back,) = torch.autograd.grad(moved, delta, v, retain_graph=True)
        v = back + own
    through = torch.autograd.grad(moved, list(parameters), v, materialize_grads=True)
    return [a + b for a, b in zip(direct, through, strict=True)]


def retrospection(
    student: Student, teacher: nn.Module, images: Tensor, generator: torch.Generator
) -> list[Tensor]:
    """Returns the gradient by which a student unlearns what a perturbation of the teacher's does,
    one tensor a parameter.

    Args:
        student: S.
        teacher: T, on the same device.
        images: x, (B, C, H, W), B > 0.
        generator: CPU generator of the perturbation and of which images have it: 2 % of them, at
            least one.
    """
    delta = perturbation(teacher, images, generator)
    n_patched = math.ceil(PATCHED * len(images))
    rows = torch.randperm(len(images), generator=generator)[:n_patched].to(images.device)
    with torch.no_grad():
        wanted = student(images)

    def inner(delta: Tensor) -> Tensor:
        gained = divergences(wanted, student(images + delta)).mean()
        return PENALTY * delta.square().sum() - gained

    def outer(delta: Tensor) -> Tensor:
        # Images without the patch are answered as they are.
        changed = divergences(wanted[rows], student(images[rows] + delta))
        return changed.sum() / len(images)

    return hypergradient(inner, outer, delta, list(student.parameters()))
