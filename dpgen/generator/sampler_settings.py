"""The settings that choose a sampler, for every method and for `dpgen sample`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from samplers import Sampler

# Default ends of the ladder of noise levels, by field.
ENDS: dict[str, float] = {"sigma_min": 0.02, "sigma_max": 20.0}


@dataclass(frozen=True, init=False)
class SamplerSettings:
    """How samples are drawn: a sampler's name and its numbers. Changing them costs no privacy.

    The method fills in fields that are None. In settings files and in ``--set`` the options are
    beside the other fields, as in ``sampler.eta=0.5``.

    Args:
        name: name of a sampler, as `dpgen sample --help` lists them.
        start: "noise", or, in mode sketch, "proposals": images that its decoder or spectrum draws
            and the sampler refines, from its first noise level down.
        n_steps: number of positive noise levels.
        sigma_min: lowest positive noise level, the last.
        sigma_max: highest noise level, the first.
        options: options of this sampler, as step_size=0.7; one that is not given is at its default.
        others: more options by keyword; None stands for an option that is not given.
    """

    others: ClassVar[Any] = int | float | None  # type of the options, which are not fields

    name: str | None = None
    start: str | None = None
    n_steps: int | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __init__(
        self,
        name: str | None = None,
        start: str | None = None,
        n_steps: int | None = None,
        sigma_min: float | None = None,
        sigma_max: float | None = None,
        options: Mapping[str, Any] | None = None,
        **others: float | None,
    ) -> None:
        given = dict(options or {})
        for option in given.keys() & {f.name for f in fields(self)}:
            raise ValueError(f"{option!r} is not an option of a sampler")
        for option in given.keys() & others.keys():
            raise ValueError(f"option {option!r} of a sampler is given twice")
        given = {k: v for k, v in (given | others).items() if v is not None}
        values = (name, start, n_steps, sigma_min, sigma_max, given)
        for one, value in zip(fields(self), values, strict=True):
            object.__setattr__(self, one.name, value)

    def filled(self, **defaults: Any) -> SamplerSettings:  # noqa: ANN401
        """Fills in ``defaults``, by name of fields and options, where no value is given."""
        own = {f.name for f in fields(self)}
        chosen = {k: v for k, v in defaults.items() if k in own and getattr(self, k) is None}
        options = {k: v for k, v in defaults.items() if k not in own}
        return replace(self, **chosen, options={**options, **self.options})

    def from_noise(self, **defaults: Any) -> SamplerSettings:  # noqa: ANN401
        """Fills in defaults as `filled`, for methods without proposals. Raises ValueError for a
        start other than noise.
        """
        if self.start not in (None, "noise"):
            raise ValueError(f"start must be noise, got {self.start!r}")
        return self.filled(start="noise", **defaults)

    def build(self) -> Sampler:
        """Makes the sampler. Raises ValueError for an unknown name or option, a value out of range,
        and a required field that is None.
        """
        from samplers import make_sampler

        needed: dict[str, Any] = {
            "name": self.name, "n_steps": self.n_steps,
            "sigma_min": self.sigma_min, "sigma_max": self.sigma_max,
        }  # fmt: skip
        missing = [name for name, value in needed.items() if value is None]
        if missing:
            raise ValueError(f"settings of a sampler lack {', '.join(missing)}")
        return make_sampler(**needed, **self.options)
