"""A toy metric of pixels: how far the mean brightness of a set is from the reference's."""

from __future__ import annotations

from dpgen.evaluation.comparison import ComparedImages, Value


def brightness_gap(both: ComparedImages) -> Value:
    gap = both.synthetic.pixels.mean() - both.reference.pixels.mean()
    return Value(float(gap.abs()))
