r"""The types of this package: a score, and the two interfaces from which samplers are made.

Noise is variance exploding everywhere, ``x_sigma = x_0 + sigma z``, and ``p_sigma`` is the
distribution of ``x_sigma``. A `Transport` carries p_sigma to p_sigma_next, a `Kernel` leaves
p_sigma invariant, and a `Sampler` turns unit noise into samples with either or both.

As an example, a complete transport: denoise fully, then add fresh noise (Song et al. 2023, arXiv
2303.01469, algorithm 1). It is exact for a point mass, as every transport must be.

    >>> from dataclasses import dataclass
    >>> import torch
    >>> from samplers import Annealed, Karras, denoised_from_score, unit_noise
    >>> @dataclass(frozen=True)
    ... class Renoise:
    ...     def step(self, score_fn, x, sigma, sigma_next, *, generator):
    ...         denoised = denoised_from_score(score_fn(x, sigma), x, sigma)
    ...         return denoised + sigma_next * unit_noise(x, generator=generator)
    ...     def n_evaluations(self, n_levels):
    ...         return n_levels
    >>> def point_mass(x, sigma):
    ...     return (3.0 - x) / sigma**2
    >>> generator = torch.Generator().manual_seed(0)
    >>> sampler = Annealed(Karras(4), Renoise())
    >>> sampler(point_mass, torch.randn(2, 1, generator=generator), generator=generator).round()
    tensor([[3.],
            [3.]])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

ScoreFn = Callable[[Tensor, Tensor], Tensor]
"""``(x (B, *S), sigma () or (B,)) -> grad log p_sigma(x), (B, *S)``.

sigma is positive and on the device of x. Samplers call it without gradients: an energy network
opens ``torch.enable_grad()`` itself."""

LogDensityFn = Callable[[Tensor, Tensor], Tensor]
"""``(x (B, *S), sigma () or (B,)) -> log p_sigma(x) up to a constant of sigma, (B,)``."""


class Info(NamedTuple):
    """The report of a move, for observers; it never enters the state.

    Args:
        acceptance: Metropolis acceptance probability in [0, 1], (B,); None for an unadjusted move.
        energy_error: change of the Hamiltonian over the proposed move, (B,); None if it is unknown.
        rejected: the items that stayed where they were, by Metropolis' rule or because their
            proposal was not finite, (B,) bool; None where nothing is ever rejected.
    """

    acceptance: Tensor | None = None
    energy_error: Tensor | None = None
    rejected: Tensor | None = None


Observer = Callable[[Tensor, Tensor, Info], None]
"""``(x (B, *S), sigma (), info)``: called after every move, with x from (about) p_sigma."""


class State(Protocol):
    """The state that a kernel carries from step to step: the position and, for instance, its
    score.
    """

    @property
    def x(self) -> Tensor:
        """Returns the position, (B, *S)."""


S = TypeVar("S", bound=State)


class Levels(Protocol):
    """A ladder of noise levels."""

    def __call__(self) -> Tensor:
        """Returns the levels, float64, (n_levels + 1,): finite, strictly descending, the last one
        0.
        """


class Kernel(Protocol[S]):
    """Leaves p_sigma invariant, at a positive sigma.

    A kernel with ``keeps_score = True`` has states with a ``score``, the one at ``x``, so that the
    next step need not evaluate it again.
    """

    def init(self, score_fn: ScoreFn, x: Tensor, sigma: Tensor, *, generator: torch.Generator) -> S:
        """Makes the state at position ``x``; what it adds to x, as a momentum, is drawn from its
        own distribution.
        """

    def step(
        self, score_fn: ScoreFn, state: S, sigma: Tensor, *, generator: torch.Generator
    ) -> tuple[S, Info]:
        """Makes one move. The position keeps its shape, dtype and device, and the given state is
        not changed.
        """

    def n_evaluations(self, n_steps: int) -> int:
        """Counts the calls of the score by one `init` and ``n_steps`` steps."""


class Transport(Protocol):
    """Carries x ~ p_sigma to x' ~ p_sigma_next, where ``sigma > sigma_next >= 0``.

    A transport with ``asks_at_start = True`` evaluates the score once at exactly the tensors ``x``
    and ``sigma`` that it was given, so that a kernel before it may supply the value.
    """

    def step(
        self,
        score_fn: ScoreFn,
        x: Tensor,
        sigma: Tensor,
        sigma_next: Tensor,
        *,
        generator: torch.Generator,
    ) -> Tensor:
        """Makes one move, and keeps the shape, dtype and device of ``x``. Both sigmas are () or
        (B,).
        """

    def n_evaluations(self, n_levels: int) -> int:
        """Counts the calls of the score by ``n_levels`` steps, the last of them to 0."""


class Sampler(Protocol):
    """Turns noise into samples."""

    def __call__(
        self,
        score_fn: ScoreFn,
        x: Tensor,
        *,
        generator: torch.Generator,
        observe: Observer | None = None,
    ) -> Tensor:
        """Draws samples from p_0, (B, *S); ``x`` is *unit* noise, which the sampler scales itself.
        """
