"""Samplers by name, for command lines and configuration files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches

from samplers.annealed import Annealed
from samplers.ddim import DDIM
from samplers.heun import Heun
from samplers.levels import Karras
from samplers.types import Transport

SAMPLERS: dict[str, tuple[Callable[..., Transport], tuple[str, ...]]] = {
    # name: transport from (n_steps, options), options beside rho
    "ddim": (lambda n_steps, **options: DDIM(**options), ("eta",)),
    "ddpm": (lambda n_steps, **options: DDIM(eta=1.0), ()),
    "heun": (lambda n_steps, **options: Heun(), ()),
    "edm": (Heun.edm, ("s_churn", "s_min", "s_max", "s_noise")),
}


def make_sampler(
    name: str, *, n_steps: int, sigma_min: float, sigma_max: float, **options: float
) -> Annealed:
    """The named transport down a Karras ladder.

    `ddim` (options: eta), `ddpm` (ddim with eta 1), `heun` (no churn), `edm` (Heun with churn;
    options: s_churn, s_min, s_max, s_noise). All take rho, of the ladder. Defaults are those of
    `DDIM`, `Heun.edm` and `Karras`.

    Args:
        name: a key of `SAMPLERS`.
        n_steps: number of steps, at least 1; the score is evaluated ``n_steps`` times by ddim and
            ddpm, ``2 n_steps - 1`` times by heun and edm.
        sigma_min, sigma_max: the smallest positive level and the first one.
    """
    if name not in SAMPLERS:
        raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, {_got(name, SAMPLERS)}")
    make, known = SAMPLERS[name]
    known = (*known, "rho")
    for option in options:
        if option not in known:
            raise ValueError(f"options of {name} are {', '.join(known)}, {_got(option, known)}")
    ladder = {"rho": options.pop("rho")} if "rho" in options else {}
    levels = Karras(n_steps, sigma_min=sigma_min, sigma_max=sigma_max, **ladder)
    return Annealed(levels, make(n_steps, **options))


def _got(name: str, known: Iterable[str]) -> str:
    nearest = get_close_matches(name, list(known), n=1, cutoff=0)[0]
    return f"got {name!r}; the nearest is {nearest!r}"
