from __future__ import annotations

import math
import re
from collections.abc import Sequence
from xml.etree import ElementTree

import pytest

from dpgen.evaluation.metrics import Estimate, Metric
from dpgen.report.charts import (
    DODGE,
    INSET,
    LEFT,
    N_COLOURS,
    RIGHT,
    WIDTH,
    Line,
    chart,
    letter,
    marker,
)
from dpgen.report.published import Published

EPSILONS = (0.1, 1.0, 10.0)
START, STOP = LEFT + INSET, WIDTH - RIGHT - INSET


def line(*means: float, error: float | None = 0.0, style: int = 0, label: str = "ours") -> Line:
    points = tuple(
        (epsilon, Estimate(mean, error, (mean, mean) if error is not None else (mean,)))
        for epsilon, mean in zip(EPSILONS, means, strict=False)
    )
    return Line(label, style, points)


def row(points: Sequence[tuple[float, float]], *, claim: bool = False) -> Published:
    return Published("mnist", (1, 28, 28), "theirs", "fid", tuple(points), "p", "s", "u", claim)


def drawn(*lines: Line, **options: object) -> ElementTree.Element:
    return ElementTree.fromstring(chart("c", Metric("fid"), 1, EPSILONS, lines, **options))  # type: ignore[arg-type]


def numbers(path: ElementTree.Element) -> list[tuple[float, float]]:
    """The corners of a path."""
    found = [float(n) for n in re.findall(r"[-.\d]+", path.attrib["d"])]
    return list(zip(found[::2], found[1::2], strict=True))


def of(tree: ElementTree.Element, kind: str) -> list[ElementTree.Element]:
    return [e for e in tree.iter() if e.attrib.get("class", "").split()[:1] == [kind]]


def test_epsilons_lie_on_a_logarithmic_axis_and_values_on_theirs() -> None:
    (path,) = of(drawn(line(0, 50, 100)), "path")
    # The axis of values from 0 to 100 runs from 248 up to 14; epsilon from 64 to 354.
    assert numbers(path) == [(START, 248), ((START + STOP) / 2, 131), (STOP, 14)]


def test_ticks_stand_at_the_epsilons_themselves() -> None:
    tree = drawn(line(0, 50, 100), line(0, 50, 100, style=1))
    ticks = [float(t.attrib["x1"]) for t in of(tree, "tick")]
    assert ticks == [START, (START + STOP) / 2, STOP]
    words = {t.text: float(t.attrib["x"]) for t in tree.iter("text") if t.text in ("0.1", "10")}
    assert words == {"0.1": START, "10": STOP}


def test_methods_stand_beside_each_other_around_their_epsilon() -> None:
    paths = of(drawn(line(1, 2, 3), line(4, 5, 6, style=1), line(7, 8, 9, style=2)), "path")
    assert [numbers(p)[0][0] for p in paths] == [START - DODGE, START, START + DODGE]


def test_methods_of_near_epsilons_do_not_mix() -> None:
    lines = [Line(str(i), i, ((1.0, Estimate(1, None, (1,))),)) for i in range(8)]
    tree = ElementTree.fromstring(chart("c", Metric("fid"), 1, (1.0, 1.1, 3.0), lines))
    gap = (STOP - START) * math.log(1.1) / math.log(3)
    first, last = (marks(tree)[i] for i in (0, -1))
    assert last - first == pytest.approx(0.7 * gap, abs=0.02)


def marks(tree: ElementTree.Element) -> list[float]:
    """Middle of every method's first mark."""
    found = []
    for point in of(tree, "point"):
        mark = of(point, "mark")[0]
        if "cx" in mark.attrib:
            found.append(float(mark.attrib["cx"]))
        else:
            across = [x for x, _ in numbers(mark)]
            found.append((min(across) + max(across)) / 2)
    return found


def test_error_bars_are_one_standard_error_to_each_side() -> None:
    tree = drawn(line(0, 50, 100, error=20))
    bar = of(of(tree, "point")[1], "error")[0]
    # The axis runs from -20 to 120 in round steps: -25 to 125.
    assert (float(bar.attrib["y1"]), float(bar.attrib["y2"])) == (
        pytest.approx(248 - 234 * 55 / 150, abs=0.01),
        pytest.approx(248 - 234 * 95 / 150, abs=0.01),
    )


def test_every_seed_is_a_dot_and_one_seed_has_no_bar() -> None:
    three = Line("ours", 0, ((1.0, Estimate(50, 5, (40, 50, 60))),))
    tree = drawn(three)
    assert len(of(tree, "seed")) == 3 and len(of(tree, "error")) == 3
    assert len({s.attrib["cy"] for s in of(tree, "seed")}) == 3
    alone = drawn(line(50, error=None))
    assert of(alone, "seed") == [] and of(alone, "error") == []


def test_a_bar_that_reaches_below_zero_keeps_the_axis_linear() -> None:
    low = Line("ours", 0, ((1.0, Estimate(2.0, 3.0, (1.0, 3.0))),))
    tree = drawn(low, line(200.0, error=None, style=1))
    # From -50 to 200: the bar ends at -1.
    assert float(of(tree, "error")[0].attrib["y1"]) == pytest.approx(248 - 234 * 49 / 250, abs=0.01)


def test_numbers_show_on_hovering() -> None:
    tree = drawn(Line("ours <1>", 0, ((1.0, Estimate(50, 5, (40, 60))),)))
    (point,) = of(tree, "point")
    title = point.find("title")
    assert title is not None
    assert title.text == "ours <1>, epsilon 1: 50.0 ± 5.0 (seeds: 40.0, 60.0)"


def test_real_images_are_a_line_across() -> None:
    tree = drawn(line(0, 50, 100), real={"real": 25.0})
    (group,) = of(tree, "real")
    assert float(group[0].attrib["y1"]) == float(group[0].attrib["y2"]) == 248 - 234 / 4
    assert group[1].text == "real images 25.0"


def test_published_points_stand_at_their_epsilons_under_one_letter_each() -> None:
    tree = drawn(
        line(0, 50, 100), others=[row([(0.1, 100), (10, 75)]), row([(10, 74)], claim=True)]
    )
    (group,) = of(tree, "published")
    assert numbers(of(group, "path")[0]) == [(START, 14), (STOP, 248 - 234 * 0.75)]
    letters = [(t.text, float(t.attrib["y"])) for t in group.iter("text")]
    assert [text for text, _ in letters] == ["a", "b*"]
    assert letters[0][1] < letters[1][1] and letters[1][1] - letters[0][1] == pytest.approx(11)
    assert [g.attrib.get("class") for g in group] == [None, "claim"]


def test_without_published_numbers_nothing_of_them_is_drawn() -> None:
    assert of(drawn(line(0, 50, 100)), "published") == []


def test_the_first_methods_differ_in_shape_and_colour() -> None:
    shapes = {str(marker(i, 0, 0)) for i in range(7)}
    assert len(shapes) == 7 and marker(7, 0, 0) == marker(0, 0, 0)
    styles = {(i % 7, i % N_COLOURS) for i in range(42)}
    assert len(styles) == 42


def test_marks_without_a_verified_guarantee_are_hollow() -> None:
    tree = drawn(line(1, 2, 3), Line("claim", 1, line(4, 5, 6).points, unverified=True))
    assert ["hollow" in g.attrib["class"] for g in of(tree, "line")] == [False, True]


def test_letters_go_on_after_z() -> None:
    assert [letter(i, row([(1, 1)])) for i in (0, 25, 26)] == ["a", "z", "a1"]


def test_an_accuracy_is_marked_in_percent() -> None:
    points = ((1.0, Estimate(0.75, None, (0.75,))), (10.0, Estimate(0.95, None, (0.95,))))
    tree = ElementTree.fromstring(
        chart("c", Metric("accuracy_cnn"), 1, (1.0, 10.0), [Line("ours", 0, points)])
    )
    words = [t.text for t in tree.iter("text")]
    assert "75 %" in words and "95 %" in words


def spans(tree: ElementTree.Element) -> list[tuple[float, float, float, str]]:
    """Where each text lies at most, from left to right, its height, and its words; the widest font
    of a page, at 12 units, takes less than 7.8 for a digit and 6.9 for a letter on average.
    """
    found = []
    for text in tree.iter("text"):
        words, x = text.text or "", float(text.attrib["x"])
        width = len(words) * (7.8 if re.fullmatch(r"[-+.\de %]+|[a-z]\d*\*?", words) else 6.9)
        start = x - width * {"end": 1.0, "middle": 0.5}.get(text.attrib.get("text-anchor", ""), 0)
        found.append((start, start + width, float(text.attrib["y"]), words))
    return found


@pytest.mark.parametrize(
    ("metric", "scale"),
    [("fid", 1.0), ("fid", 2e6), ("classifier_kid", 1.5e-4), ("accuracy_cnn", 0.01), ("fid", 1e-9)],
)
@pytest.mark.parametrize("epsilons", [EPSILONS, (0.001, 0.002, 300.0, 1000.0), (0.5, 0.6, 0.7)])
def test_no_label_is_cut_or_lies_over_another(
    metric: str, scale: float, epsilons: tuple[float, ...]
) -> None:
    means = [scale * mean for mean in (55.0, 97.0, 98.0, 99.0)]
    points = tuple(
        (epsilon, Estimate(mean, None, (mean,)))
        for epsilon, mean in zip(epsilons, means, strict=False)
    )
    theirs = [row([(epsilons[0], mean)], claim=True) for mean in means * 8]
    levels = {"real": 98.6 * scale, "other real": 98.5 * scale}
    tree = ElementTree.fromstring(
        chart(
            "c", Metric(metric), 4, epsilons, [Line("ours", 0, points)], real=levels, others=theirs
        )
    )
    found = spans(tree)
    assert all(0 <= left and right <= WIDTH for left, right, _, _ in found), found
    for kind in ("frame", "real"):
        group = spans(of(tree, kind)[0])
        for i, (left, right, y, words) in enumerate(group):
            for other_left, other_right, other_y, other in group[i + 1 :]:
                apart = other_left >= right or left >= other_right or abs(y - other_y) >= 11
                assert apart, (words, other)


def test_the_plot_gives_way_to_long_numbers_and_only_to_them() -> None:
    (short,), (long,) = (of(drawn(line(*means)), "path") for means in ((0, 50, 100), (0, 5e6, 1e7)))
    assert numbers(short)[0][0] == START < numbers(long)[0][0]
    assert numbers(short)[-1][0] == STOP == numbers(long)[-1][0]
