"""Describes the mechanisms that ran on the records, as values: composed Gaussian mechanisms, each
on a Poisson sample.

An event says what ran: a Gaussian mechanism with ``noise_multiplier = std / bound``, where
``bound`` is the largest l2 norm that one record contributes to the sum, run ``steps`` times, each
on a Poisson sample of the records (``rate``) or on all of them (``rate = 1``). Accountants
interpret events.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dp_accounting import dp_event
from dp_accounting.dp_event import DpEvent


class UnsupportedEvent(ValueError):
    """An event that no proof in this package covers."""


@dataclass(frozen=True)
class GaussianLeaf:
    """``steps`` Gaussian mechanisms on Poisson samples: the only mechanism that ever reads a record
    in this package.
    """

    rate: float
    noise_multiplier: float
    steps: int

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise ValueError(f"rate must lie in (0, 1], got {self.rate}")
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier > 0):
            raise ValueError(
                f"noise_multiplier must be greater than 0, got {self.noise_multiplier}"
            )
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise ValueError(f"steps must be a whole number greater than 0, got {self.steps!r}")

    @property
    def event(self) -> DpEvent:
        event: DpEvent = dp_event.GaussianDpEvent(self.noise_multiplier)
        if self.rate < 1:
            event = dp_event.PoissonSampledDpEvent(self.rate, event)
        return event if self.steps == 1 else dp_event.SelfComposedDpEvent(event, self.steps)


def leaves(event: DpEvent, steps: int = 1) -> list[GaussianLeaf]:
    """Returns the Gaussian mechanisms an event is composed of, equal ones merged. Raises
    UnsupportedEvent, naming it, for any other event.
    """
    found: dict[tuple[float, float], int] = {}

    def visit(event: DpEvent, steps: int) -> None:
        match event:
            case dp_event.GaussianDpEvent():
                key = (1.0, float(event.noise_multiplier))
                found[key] = found.get(key, 0) + steps
            case dp_event.PoissonSampledDpEvent(event=dp_event.GaussianDpEvent() as inner):
                key = (float(event.sampling_probability), float(inner.noise_multiplier))
                found[key] = found.get(key, 0) + steps
            case dp_event.SelfComposedDpEvent():
                visit(event.event, steps * event.count)
            case dp_event.ComposedDpEvent():
                for part in event.events:
                    visit(part, steps)
            case dp_event.NoOpDpEvent():
                pass
            case _:
                raise UnsupportedEvent(f"no proof in this package covers the event {event}")

    visit(event, steps)
    return [GaussianLeaf(rate, multiplier, n) for (rate, multiplier), n in found.items()]


def compose(events: Iterable[DpEvent]) -> DpEvent:
    """Composes ``events`` adaptively: each may depend on the releases of the earlier ones."""
    return dp_event.ComposedDpEvent(
        [leaf.event for leaf in leaves(dp_event.ComposedDpEvent(list(events)))]
    )


def event_to_json(event: DpEvent) -> list[dict[str, Any]]:
    return [
        {
            "type": "gaussian" if leaf.rate == 1 else "poisson_sampled_gaussian",
            "rate": leaf.rate,
            "noise_multiplier": leaf.noise_multiplier,
            "steps": leaf.steps,
        }
        for leaf in leaves(event)
    ]


def event_from_json(rows: list[dict[str, Any]]) -> DpEvent:
    """Reads an event that `event_to_json` wrote. An unknown type or key is refused."""
    if not isinstance(rows, list):
        raise UnsupportedEvent(f"events must be a list, got {type(rows).__name__}")
    parts = []
    for row in rows:
        if not isinstance(row, dict) or set(row) != {"type", "rate", "noise_multiplier", "steps"}:
            raise UnsupportedEvent(
                f"an event has the keys type, rate, noise_multiplier, steps; got {row!r:.200}"
            )
        numbers = (row["rate"], row["noise_multiplier"])
        if any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
            raise UnsupportedEvent(
                f"rate and noise_multiplier must be numbers, got {numbers!r:.200}"
            )
        if row["type"] != ("gaussian" if row["rate"] == 1 else "poisson_sampled_gaussian"):
            raise UnsupportedEvent(
                f"unknown event type {row['type']!r:.100} at rate {row['rate']!r:.100}"
            )
        parts.append(
            GaussianLeaf(float(row["rate"]), float(row["noise_multiplier"]), row["steps"]).event
        )
    return dp_event.ComposedDpEvent(parts)
