"""Axes of a chart: where a value lies, which numbers stand beside them, what makes labels part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dpgen.evaluation.metrics import Metric

__all__ = ["Axis", "spread", "value_axis"]

LOG_FROM = 20.0  # highest over lowest value from which on a metric has a logarithmic axis
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Axis:
    """Values from ``low`` to ``high`` on a line from ``start`` to ``stop``, linear or logarithmic.

    A single value lies in the middle.
    """

    low: float
    high: float
    start: float
    stop: float
    logarithmic: bool = False

    def position(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.stop - self.start)

    def ticks(self) -> tuple[float, ...]:
        """Returns round numbers within the axis, at most seven of them on a linear one."""
        if not self.logarithmic:
            step = _step(self.high - self.low)
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            return tuple(round(i * step, 10) for i in range(first, last + 1))
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        marks = [round(m * 10.0**d, 10) for d in decades for m in (1, 2, 5)]
        return tuple(m for m in marks if self.low <= m <= self.high)


def value_axis(metric: Metric, values: Sequence[float], start: float, stop: float) -> Axis:
    """Makes the axis of a metric, with all values inside; logarithmic if they span a factor of
    `LOG_FROM` and are not percentages, otherwise from zero where low is better.
    """
    low, high = min(values), max(values)
    if low > 0 and high / low >= LOG_FROM and not metric.percent:
        return Axis(low / 1.2, high * 1.2, start, stop, True)
    low = min(low, 0.0) if metric.better == "low" else low
    step = _step(max(high - low, 1e-3 * max(abs(high), 1e-6)))
    bottom, top = step * math.floor(low / step + 1e-9), step * math.ceil(high / step - 1e-9)
    if bottom == top:
        bottom, top = (bottom - step, top) if metric.percent else (bottom, top + step)
    return Axis(bottom, top, start, stop)


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Moves positions until they lie ``gap`` apart, in their order, and within [low, high] if there
    is room.
    """
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    found = list(positions)
    for before, i in zip([None, *order], order, strict=False):
        floor = low if before is None else found[before] + gap
        found[i] = max(found[i], floor)
    for after, i in zip([None, *reversed(order)], reversed(order), strict=False):
        ceiling = high if after is None else found[after] - gap
        found[i] = min(found[i], ceiling)
    return found


def _step(span: float) -> float:
    """Returns a round step that divides a span into three to six."""
    power = 10.0 ** math.floor(math.log10(span / 6))
    return next(step * power for step in STEPS if span / (step * power) <= 6 + 1e-9)
