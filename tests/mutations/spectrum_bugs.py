"""Bugs in the spectrum, whose later releases are asked around what earlier ones gave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dpgen.data.private import PrivateDataset
from dpgen.stages import spectrum
from tests.mutations.bug import Bug
from tests.mutations.stage_bugs import raw

RUN = "dpgen.stages.spectrum.run"


def around_the_records(original: Callable[..., Any]) -> Callable[..., Any]:
    """The centre is the mean of the records, and its release is made for nothing."""

    def run(data: PrivateDataset, *given: Any) -> Any:  # noqa: ANN401
        pixels, _ = raw(data)
        centre = spectrum._centre

        def true(tables: Any, statistic: Any, *rest: Any) -> Any:  # noqa: ANN401
            coefficients = statistic.basis.analyse(pixels).mean(0)
            return {**centre(tables, statistic, *rest), "centre": coefficients}

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(spectrum, "_centre", true)
            return original(data, *given)

    return run


def fitting_the_longest(original: Callable[..., Any]) -> Callable[..., Any]:
    """The scale is the norm of the longest record."""

    def run(data: PrivateDataset, *given: Any) -> Any:  # noqa: ANN401
        pixels, _ = raw(data)
        with pytest.MonkeyPatch.context() as patch:
            longest = float(pixels.flatten(1).norm(dim=1).max())
            patch.setattr(spectrum, "scale_of", lambda *given: longest)
            return original(data, *given)

    return run


BUGS = (
    Bug(
        "spectrum around the mean of the records, not the released one",
        "a record moves what all others contribute",
        "spectrum", {RUN: around_the_records},
    ),
    Bug(
        "scale of the spectrum from the longest record",
        "the clip is then an un-noised function of one record",
        "spectrum", {RUN: fitting_the_longest},
    ),
)  # fmt: skip
