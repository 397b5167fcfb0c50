"""Samplers by name, for command lines and configuration files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches

from samplers.annealed import Annealed
from samplers.ddim import DDIM
from samplers.hamiltonian import Hamiltonian
from samplers.heun import Heun
from samplers.langevin import Langevin, UnderdampedLangevin
from samplers.levels import Karras


def _ddim(levels: Karras, **options: float) -> Annealed:
    return Annealed(levels, DDIM(**options))


def _ddpm(levels: Karras) -> Annealed:
    return Annealed(levels, DDIM(eta=1.0))


def _heun(levels: Karras) -> Annealed:
    return Annealed(levels, Heun())


def _edm(levels: Karras, **options: float) -> Annealed:
    return Annealed(levels, Heun.edm(levels.n_levels, **options))


def _langevin(
    levels: Karras, n_kernel_steps: int = 5, step_size: float = Langevin.step_size
) -> Annealed:
    return Annealed(levels, None, Langevin(step_size), n_kernel_steps)


def _underdamped(levels: Karras, n_kernel_steps: int = 4, **options: float) -> Annealed:
    return Annealed(levels, None, UnderdampedLangevin(**options), n_kernel_steps)


def _hamiltonian(
    levels: Karras,
    n_kernel_steps: int = 1,
    step_size: float = Hamiltonian.step_size,
    n_leapfrog: int = Hamiltonian.n_leapfrog,
    persistence: float = Hamiltonian.persistence,
) -> Annealed:
    if persistence != 0 and n_kernel_steps == 1:
        raise ValueError(f"persistence = {persistence} needs n_kernel_steps of at least 2, got 1")
    return Annealed(levels, None, Hamiltonian(step_size, n_leapfrog, persistence), n_kernel_steps)


def _ddim_hamiltonian(
    levels: Karras,
    n_kernel_steps: int = 1,
    eta: float = DDIM.eta,
    step_size: float = Hamiltonian.step_size,
    n_leapfrog: int = Hamiltonian.n_leapfrog,
) -> Annealed:
    return Annealed(levels, DDIM(eta), Hamiltonian(step_size, n_leapfrog), n_kernel_steps)


def _predictor_corrector(
    levels: Karras,
    n_kernel_steps: int = 1,
    eta: float = DDIM.eta,
    step_size: float = Langevin.step_size,
) -> Annealed:
    return Annealed(levels, DDIM(eta), Langevin(step_size), n_kernel_steps)


SAMPLERS: dict[str, tuple[Callable[..., Annealed], tuple[str, ...]]] = {
    # name: sampler from (levels, options), options beside rho
    "ddim": (_ddim, ("eta",)),
    "ddpm": (_ddpm, ()),
    "heun": (_heun, ()),
    "edm": (_edm, ("s_churn", "s_min", "s_max", "s_noise")),
    "langevin": (_langevin, ("step_size", "n_kernel_steps")),
    "underdamped": (_underdamped, ("step_size", "friction", "n_kernel_steps")),
    "hamiltonian": (_hamiltonian, ("step_size", "n_leapfrog", "persistence", "n_kernel_steps")),
    "ddim-hamiltonian": (
        _ddim_hamiltonian,
        ("eta", "step_size", "n_leapfrog", "n_kernel_steps"),
    ),
    "predictor-corrector": (_predictor_corrector, ("eta", "step_size", "n_kernel_steps")),
}


def make_sampler(
    name: str, *, n_steps: int, sigma_min: float, sigma_max: float, **options: float
) -> Annealed:
    """Makes the named sampler down a Karras ladder.

    Transports: `ddim` (options: eta), `ddpm` (ddim with eta 1), `heun` (no churn), `edm` (Heun with
    churn; options: s_churn, s_min, s_max, s_noise). Kernels, unadjusted, with a last denoising
    step: `langevin` (step_size), `underdamped` (step_size, friction), `hamiltonian` (step_size,
    n_leapfrog, persistence). Both: `predictor-corrector`, DDIM and Langevin (eta, step_size), and
    `ddim-hamiltonian` (eta, step_size, n_leapfrog), which needs few levels.
    Kernels also take n_kernel_steps, and all samplers take rho of the ladder.

    Args:
        name: a key of `SAMPLERS`.
        n_steps: number of levels, at least 1; see `Annealed.n_evaluations` for the evaluations.
        sigma_min, sigma_max: the smallest positive level and the first one.
        options: numbers by name, as listed above.

    Raises:
        ValueError: an unknown name or option, or a number out of its range.
    """
    if name not in SAMPLERS:
        raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, {_got(name, SAMPLERS)}")
    make, known = SAMPLERS[name]
    known = (*known, "rho")
    for option in options:
        if option not in known:
            raise ValueError(f"options of {name} are {', '.join(known)}, {_got(option, known)}")
    numbers = {"sigma_min": sigma_min, "sigma_max": sigma_max, **options}
    for option, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{option} must be a number, got {value!r}")
    ladder = {"rho": options.pop("rho")} if "rho" in options else {}
    return make(Karras(n_steps, sigma_min=sigma_min, sigma_max=sigma_max, **ladder), **options)


def _got(name: str, known: Iterable[str]) -> str:
    nearest = get_close_matches(name, list(known), n=1, cutoff=0)[0]
    return f"got {name!r}; the nearest is {nearest!r}"
