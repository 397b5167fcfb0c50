"""Charts of a metric against epsilon as inline SVG: no script, no network, numbers on hovering."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from dpgen.evaluation.metrics import Estimate, Metric
from dpgen.report.axes import Axis, spread, value_axis
from dpgen.report.markup import Markup, element, together
from dpgen.report.published import Published

__all__ = ["Line", "chart", "legend", "letter", "marker", "sign"]

# User units of the SVG, about a pixel of a phone and .7 of a laptop's.
WIDTH, HEIGHT = 400, 290
LEFT, RIGHT, TOP, BOTTOM = 42, 24, 14, 42  # at least, of LEFT and RIGHT: labels may need more
CHARACTER = 7.8  # width at most of a character of numbers, in the widest of the page's fonts
INSET = 22  # between the edge of the plot and the first epsilon
DODGE = 7.0  # between the points of two methods at one epsilon, if there is room
N_COLOURS = 6
LABEL_GAP = 11.0  # between the letters of two published series
LEVEL_GAP = 14.0  # between the words at two lines across
TICK_GAP = 6.0  # between the numbers of two epsilons


@dataclass(frozen=True)
class Plot:
    """The metric, the decimals, the two axes, and where the plot begins and ends, of a chart."""

    metric: Metric
    decimals: int
    across: Axis
    up: Axis
    left: float
    right: float

    def number(self, value: float) -> str:
        return self.metric.number(value, self.decimals)


@dataclass(frozen=True)
class Line:
    """One method: its estimates by ascending epsilon. ``style`` chooses colour and marker; marks
    are hollow where no guarantee is verified.
    """

    label: str
    style: int
    points: tuple[tuple[float, Estimate], ...]
    unverified: bool = False


def chart(
    name: str,
    metric: Metric,
    decimals: int,
    epsilons: Sequence[float],
    lines: Sequence[Line],
    *,
    real: Mapping[str, float] | None = None,
    others: Sequence[Published] = (),
) -> Markup:
    """Means with standard errors, every seed as a dot, over a logarithmic epsilon axis.

    The points of several methods at one epsilon stand beside each other, centred on it.

    Args:
        name: id of the chart's title, unique on the page.
        decimals: digits of numbers that show on hovering.
        epsilons: of the axis, ascending, at least one.
        lines: the methods, at least one.
        real: values of real images by their name, dotted lines across.
        others: published series, dashed, with the letters `letter` gives them.
    """
    levels = real or {}
    values = [v for line in lines for _, e in line.points for v in (e.low, e.high, *e.values)]
    values += [*(v for row in others for _, v in row.points), *levels.values()]
    up = value_axis(metric, values, HEIGHT - BOTTOM, TOP)
    left = max(LEFT, 8 + max((_wide(_tick(metric, value)) for value in up.ticks()), default=0))
    marks = [_wide(letter(i, row)) for i, row in enumerate(others)]
    right = WIDTH - max(RIGHT, 6 + max(marks, default=0))
    across = Axis(epsilons[0], epsilons[-1], left + INSET, right - INSET, True)
    plot = Plot(metric, decimals, across, up, left, right)
    dodge = _dodge([across.position(epsilon) for epsilon in epsilons], len(lines))
    middle = (len(lines) - 1) / 2
    words = f"{metric.title} against epsilon. Methods: {', '.join(k.label for k in lines)}. "
    return element(
        "svg",
        element("title", f"{words}The numbers stand in the table of all metrics.", id=name),
        _frame(plot, epsilons),
        _levels(plot, levels),
        _published(plot, others),
        *(_line(plot, line, (i - middle) * dodge) for i, line in enumerate(lines)),
        class_="chart", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_labelledby=name,
    )  # fmt: skip


def marker(style: int, x: float, y: float) -> Markup:
    """Draws the mark of a method: one of seven shapes of about the same area."""
    corners: dict[int, list[tuple[float, float]]] = {
        1: [(-4, -4), (4, -4), (4, 4), (-4, 4)],
        2: [(0, -5.5), (5, 4), (-5, 4)],
        3: [(0, -5.8), (5.8, 0), (0, 5.8), (-5.8, 0)],
        4: [(0, 5.5), (5, -4), (-5, -4)],
        5: [(-1.7, -5), (1.7, -5), (1.7, -1.7), (5, -1.7), (5, 1.7), (1.7, 1.7), (1.7, 5),
            (-1.7, 5), (-1.7, 1.7), (-5, 1.7), (-5, -1.7), (-1.7, -1.7)],
        6: [(-5.5, 0), (-2.7, -4.8), (2.7, -4.8), (5.5, 0), (2.7, 4.8), (-2.7, 4.8)],
    }  # fmt: skip
    if style % 7 not in corners:
        return element("circle", cx=float(x), cy=float(y), r=4.6, class_="mark")
    return element("path", d=f"{_path((x + a, y + b) for a, b in corners[style % 7])}Z",
                   class_="mark")  # fmt: skip


def letter(index: int, row: Published) -> str:
    """Returns the letter of a published series in a chart and under it; a claim has a star."""
    return f"{chr(ord('a') + index % 26)}{index // 26 or ''}{'*' if row.claim else ''}"


def _dodge(places: Sequence[float], n_lines: int) -> float:
    """Returns the distance between methods: less where the methods of two epsilons would mix."""
    room = min((b - a for a, b in pairwise(places)), default=math.inf)
    return min(DODGE, 0.7 * room / max(1, n_lines - 1))


def _wide(text: str) -> float:
    """Returns a width that the text does not exceed."""
    return CHARACTER * len(text)


def _tick(metric: Metric, value: float) -> str:
    return f"{100 * value:g} %" if metric.percent else f"{value:g}"


def _frame(plot: Plot, epsilons: Sequence[float]) -> Markup:
    """Draws grid, ticks and the words at the axes."""
    marks, last, bottom = [], -math.inf, HEIGHT - BOTTOM
    for value in plot.up.ticks():
        y = plot.up.position(value)
        marks.append(element("line", x1=plot.left, x2=plot.right, y1=y, y2=y, class_="rule"))
        text = _tick(plot.metric, value)
        marks.append(element("text", text, x=plot.left - 6, y=y + 4, text_anchor="end"))
    for epsilon in epsilons:
        x = plot.across.position(epsilon)
        marks.append(element("line", x1=x, x2=x, y1=bottom, y2=bottom + 5, class_="tick"))
        text = f"{epsilon:g}"
        if x - _wide(text) / 2 >= last + TICK_GAP:
            last = x + _wide(text) / 2
            marks.append(element("text", text, x=x, y=bottom + 18, text_anchor="middle"))
    words = "epsilon, log scale: more privacy to the left"
    marks.append(element("text", words, x=plot.right, y=HEIGHT - 6, text_anchor="end"))
    return element("g", *marks, class_="frame")


def _levels(plot: Plot, levels: Mapping[str, float]) -> Markup:
    """Draws horizontal lines at values of real images, their words above or below and apart."""
    places = [plot.up.position(value) for value in levels.values()]
    wanted = [y + 13 if y < TOP + 20 else y - 5 for y in places]
    heights = spread(wanted, LEVEL_GAP, TOP + 13, HEIGHT - BOTTOM - 3)
    drawn = []
    for (name, value), y, height in zip(levels.items(), places, heights, strict=True):
        words = f"{name} images {plot.number(value)}{' %' if plot.metric.percent else ''}"
        drawn.append(element("line", x1=plot.left, x2=plot.right, y1=y, y2=y))
        drawn.append(element("text", words, x=plot.left + 4, y=height))
    return element("g", *drawn, class_="real")


def _line(plot: Plot, line: Line, shift: float) -> Markup:
    up, points, places = plot.up, [], []
    for epsilon, found in line.points:
        x, y = plot.across.position(epsilon) + shift, up.position(found.mean)
        places.append((x, y))
        values = ", ".join(map(plot.number, found.values))
        mean = plot.metric.text(found, plot.decimals)
        words = f"{line.label}, epsilon {epsilon:g}: {mean} (seeds: {values})"
        bars, seeds = [], []
        if found.error is not None:
            low, high = up.position(found.low), up.position(found.high)
            ends = [(x, x, low, high), (x - 3, x + 3, low, low), (x - 3, x + 3, high, high)]
            bars = [element("line", x1=a, x2=b, y1=c, y2=d, class_="error") for a, b, c, d in ends]
            seeds = [
                element("circle", cx=x, cy=up.position(v), r=2.1, class_="seed")
                for v in found.values
            ]
        points.append(
            element("g", element("title", words), *bars, *seeds, marker(line.style, x, y),
                    class_="point")
        )  # fmt: skip
    return element(
        "g",
        element("path", d=_path(places), class_="path") if len(places) > 1 else None,
        *points,
        class_=f"line c{line.style % N_COLOURS}{' hollow' if line.unverified else ''}",
    )


def _published(plot: Plot, others: Sequence[Published]) -> Markup | None:
    """Draws every series with its letter, which is at the right edge and apart from the others."""
    if not others:
        return None
    ends = [plot.up.position(row.points[-1][1]) for row in others]
    heights = spread(ends, LABEL_GAP, plot.up.stop + 4, plot.up.start - 2)
    drawn = []
    for i, (row, height) in enumerate(zip(others, heights, strict=True)):
        places = [(plot.across.position(e), plot.up.position(v)) for e, v in row.points]
        (x, y), edge = places[-1], plot.right + 2.0
        values = ", ".join(f"{plot.number(v)} at epsilon {e:g}" for e, v in row.points)
        drawn.append(
            element(
                "g",
                element("title", f"published: {row.method}: {values}"),
                element("path", d=_path(places), class_="path") if len(places) > 1 else None,
                *(element("path", d=f"{_path(_diamond(*p))}Z", class_="mark") for p in places),
                element("path", d=_path([(x + 4, y), (edge, height)]), class_="leader"),
                element("text", letter(i, row), x=edge + 3, y=height + 3.5),
                class_="claim" if row.claim else None,
            )
        )
    return element("g", *drawn, class_="published")


def _diamond(x: float, y: float) -> list[tuple[float, float]]:
    return [(x, y - 3), (x + 3, y), (x, y + 3), (x - 3, y)]


def _path(points: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in points)


def legend(labels: Mapping[str, bool]) -> Markup:
    """Makes the legend of the methods, each with its sign; its value in ``labels`` says whether its
    guarantee is not verified.
    """
    marks = (
        element("li", sign(i, hollow), label, " (not verified)" if hollow else None)
        for i, (label, hollow) in enumerate(labels.items())
    )
    return element("ul", *marks, class_="legend")


def sign(style: int, hollow: bool = False) -> Markup:
    """Draws the mark of a method on a piece of its line, for use in text."""
    drawn = together(element("path", d="M0 8L24 8", class_="path"), marker(style, 12, 8))
    return element(
        "svg",
        element("g", drawn, class_=f"line c{style % N_COLOURS}{' hollow' if hollow else ''}"),
        class_="sign", viewBox="0 0 24 16", width=24, height=16, aria_hidden="true",
    )  # fmt: skip
