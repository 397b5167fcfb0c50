"""Sampling from a score: transports and kernels down a ladder of noise levels.

    >>> import torch
    >>> from samplers import DDIM, Annealed, Karras
    >>> def score_fn(x, sigma):  # the data are N(2, 1)
    ...     return -(x - 2) / (1 + sigma**2)
    >>> sampler = Annealed(Karras(64), DDIM())
    >>> generator = torch.Generator().manual_seed(0)
    >>> x = sampler(score_fn, torch.randn(10_000, 1, generator=generator), generator=generator)
    >>> print(f"{x.mean():.1f}")
    2.0

torch only; knows no images, labels or privacy. Noise is variance exploding, ``x_0 + sigma z``.
"""

from samplers.annealed import Annealed
from samplers.ddim import DDIM
from samplers.guidance import classifier_guided, posterior_guided
from samplers.hamiltonian import Hamiltonian, HamiltonianState
from samplers.heun import Heun
from samplers.langevin import (
    Langevin,
    LangevinState,
    UnderdampedLangevin,
    UnderdampedState,
)
from samplers.leapfrog import Phase, leapfrog
from samplers.levels import Explicit, Geometric, Karras, check_ladder
from samplers.noise import unit_noise
from samplers.parametrization import (
    alphas_cumprod_from_sigma,
    denoised_from_score,
    noise_from_score,
    score_from_denoised,
    score_from_noise,
    score_from_v,
    sigma_from_alphas_cumprod,
    to_variance_exploding,
    to_variance_preserving,
    v_from_score,
)
from samplers.presets import SAMPLERS, make_sampler
from samplers.types import (
    Info,
    Kernel,
    Levels,
    LogDensityFn,
    Observer,
    Sampler,
    ScoreFn,
    State,
    Transport,
)

__all__ = [
    "DDIM",
    "SAMPLERS",
    "Annealed",
    "Explicit",
    "Geometric",
    "Hamiltonian",
    "HamiltonianState",
    "Heun",
    "Info",
    "Karras",
    "Kernel",
    "Langevin",
    "LangevinState",
    "Levels",
    "LogDensityFn",
    "Observer",
    "Phase",
    "Sampler",
    "ScoreFn",
    "State",
    "Transport",
    "UnderdampedLangevin",
    "UnderdampedState",
    "alphas_cumprod_from_sigma",
    "check_ladder",
    "classifier_guided",
    "denoised_from_score",
    "leapfrog",
    "make_sampler",
    "noise_from_score",
    "posterior_guided",
    "score_from_denoised",
    "score_from_noise",
    "score_from_v",
    "sigma_from_alphas_cumprod",
    "to_variance_exploding",
    "to_variance_preserving",
    "unit_noise",
    "v_from_score",
]
