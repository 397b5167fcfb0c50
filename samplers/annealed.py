"""The driver: a transport, a kernel, or both, down a ladder of noise levels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from samplers.levels import check_ladder
from samplers.noise import unit_noise
from samplers.parametrization import broadcast, denoised_from_score
from samplers.types import Info, Kernel, Levels, Observer, ScoreFn, Transport


@dataclass(frozen=True)
class Annealed:
    """A `Sampler`: at every positive level the kernel, then the transport to the next level.

    A transport alone is DDIM or Heun, a kernel alone is annealed Langevin or Hamiltonian sampling,
    both together are a predictor-corrector sampler. Without a transport a sample of one level
    starts the next unchanged, and the last level is followed by the denoising step
    ``x + sigma^2 score``.

    Only the position is carried from level to level. At each level the kernel starts again: it
    draws its momentum, whose distribution does not depend on the level, and evaluates the score at
    the new sigma. So a persistent momentum persists within a level only, over ``n_kernel_steps`` of
    at least 2.

    Guarantees: as exact as its parts. A kernel that reaches p_sigma exactly at each level gives
    p_sigma exactly before the last step. The given ``x`` is not changed, the state keeps its shape,
    dtype and device, and all randomness comes from ``generator``.

    Args:
        levels: the ladder.
        transport: carries samples from level to level.
        kernel: leaves the distribution of each level invariant.
        n_kernel_steps: kernel moves at each positive level, at least 1.
        denoise: whether a kernel alone ends with the denoising step; otherwise it gives a sample of
            the lowest positive level. A transport steps to 0 in its own way.

    Reference: Song and Ermon (2019), arXiv 1907.05600, algorithm 1 (kernel); Karras et al. (2022),
    arXiv 2206.00364, algorithm 1 (transport); Song et al. (2021), arXiv 2011.13456, algorithm 1
    (both; there the kernel skips the first level).
    """

    levels: Levels
    transport: Transport | None = None
    kernel: Kernel[Any] | None = None
    n_kernel_steps: int = 1
    denoise: bool = True

    def __post_init__(self) -> None:
        check_ladder(self.levels())
        if self.transport is None and self.kernel is None:
            raise ValueError("Annealed needs a transport, a kernel or both, got neither")
        if self.n_kernel_steps < 1:
            raise ValueError(f"n_kernel_steps must be at least 1, got {self.n_kernel_steps}")
        if self.n_kernel_steps != int(self.n_kernel_steps):
            raise ValueError(f"n_kernel_steps must be a whole number, got {self.n_kernel_steps}")
        if self.kernel is None and self.n_kernel_steps != 1:
            raise ValueError(f"n_kernel_steps = {self.n_kernel_steps} needs a kernel, got none")
        if self.transport is not None and not self.denoise:
            raise ValueError("denoise = False needs a kernel alone, a transport ends at 0")

    @property
    def n_evaluations(self) -> int:
        """Counts the calls of the score in one call of this sampler, or of `refine`; their number
        does not depend on the batch.
        """
        n_levels = len(self.levels()) - 1
        keeps = getattr(self.kernel, "keeps_score", False)
        count = 0
        if self.kernel is not None:
            count += n_levels * self.kernel.n_evaluations(self.n_kernel_steps)
        if self.transport is not None:
            count += self.transport.n_evaluations(n_levels)
            count -= n_levels * (keeps and getattr(self.transport, "asks_at_start", False))
        elif self.denoise:
            count += not keeps
        return count

    @torch.no_grad()
    def __call__(
        self,
        score_fn: ScoreFn,
        x: Tensor,
        *,
        generator: torch.Generator,
        observe: Observer | None = None,
    ) -> Tensor:
        """Draws samples, (B, *S), with the shape, dtype and device of ``x``.

        Args:
            score_fn: called without gradients; sigma comes as () on the device of ``x``, at least
                float32.
            x: unit noise, (B, *S), floating point. Its dtype is that of the state: for a network in
                half precision use float32 and let ``score_fn`` cast.
            generator: on any device; one on the CPU gives the same noise on every device of ``x``.
            observe: called after every move, of kernel and transport, with ``(x, sigma, info)``.
        """
        sigmas = self._sigmas(x)
        x = (x * broadcast(sigmas[0], x)).to(x.dtype)
        return self._descend(score_fn, x, sigmas, generator, observe or _ignore)

    @torch.no_grad()
    def refine(
        self,
        score_fn: ScoreFn,
        x: Tensor,
        *,
        generator: torch.Generator,
        observe: Observer | None = None,
    ) -> Tensor:
        """Draws samples from clean proposals: starts at ``x + sigma z`` at the first level.

        Use a ladder that begins at a medium sigma, which is the size of the features that may
        change. Proposals from p_0 give p_sigma exactly; other proposals are corrected as far as the
        noise hides them and the kernel at the first levels forgets them.

        Args:
            x: clean proposals, (B, *S), floating point; the rest is as in a call.

        Reference: Meng et al. (2022), "SDEdit", arXiv 2108.01073, algorithm 1.
        """
        sigmas = self._sigmas(x)
        z = unit_noise(x, generator=generator)
        x = (x + broadcast(sigmas[0], x) * z).to(x.dtype)
        return self._descend(score_fn, x, sigmas, generator, observe or _ignore)

    def _sigmas(self, x: Tensor) -> Tensor:
        if not x.is_floating_point() or x.ndim == 0:
            raise ValueError(
                f"x must be floating point of shape (B, *S), got {x.dtype} {tuple(x.shape)}"
            )
        return self.levels().to(x.device, torch.promote_types(x.dtype, torch.float32))

    def _descend(
        self,
        score_fn: ScoreFn,
        x: Tensor,
        sigmas: Tensor,
        generator: torch.Generator,
        look: Observer,
    ) -> Tensor:
        """Descends the ladder from x at the first of ``sigmas``."""
        ask = score_fn
        for sigma, sigma_next in pairwise(sigmas):
            if self.kernel is not None:
                state = self.kernel.init(score_fn, x, sigma, generator=generator)
                for _ in range(self.n_kernel_steps):
                    state, info = self.kernel.step(score_fn, state, sigma, generator=generator)
                    look(state.x, sigma, info)
                x = state.x
                if getattr(self.kernel, "keeps_score", False):
                    ask = _knowing(score_fn, x, sigma, state.score)
            if self.transport is not None:
                x = self.transport.step(ask, x, sigma, sigma_next, generator=generator)
                look(x, sigma_next, Info())
        if self.transport is None and self.denoise:
            x = denoised_from_score(ask(x, sigma), x, sigma)
            look(x, sigmas[-1], Info())
        return x


def _knowing(score_fn: ScoreFn, x: Tensor, sigma: Tensor, score: Tensor) -> ScoreFn:
    """Wraps ``score_fn`` so that it is not called with these two tensors, for which the score is
    known.
    """

    def ask(y: Tensor, level: Tensor) -> Tensor:
        return score if y is x and level is sigma else score_fn(y, level)

    return ask


def _ignore(x: Tensor, sigma: Tensor, info: Info) -> None:
    """Does nothing; the default observer."""
