"""What the stored numbers of a DICOM image mean: its tags of slope, intercept and window."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dpgen.data.formats.damage import Damaged

_KEYS = (
    "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "VOILUTFunction",
    "VOILUTSequence",
)  # fmt: skip
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_VALUES = ("PixelValueTransformationSequence", "FrameVOILUTSequence")


def value_tags(header: Any) -> dict[str, Any]:  # noqa: ANN401
    """Returns the tags of values and window: those of the file, and of an enhanced one those of its
    functional groups, which hold for its one frame.

    Reference: DICOM PS3.3 (2024), C.7.6.16.2.9 and C.7.6.16.2.10.
    """
    places = [header]
    for group in (header[name] for name in _GROUPS if name in header):
        places += [item for one in group for name in _VALUES if name in one for item in one[name]]
    found: dict[str, Any] = {}
    for place in places:
        for key in (key for key in _KEYS if key in place):
            if key in found and found[key] != place.get(key):
                raise Damaged(f"its tags give {key} twice, {found[key]} and {place.get(key)}")
            found[key] = place.get(key)
    return found


def rescale(tags: Mapping[str, Any]) -> tuple[float, float]:
    """Returns slope and intercept, 1 and 0 where there are none. Raises Damaged where they are no
    finite numbers, or make one value of all.
    """
    slope, intercept = (
        float(default if tags.get(key) is None else tags[key])
        for key, default in (("RescaleSlope", 1), ("RescaleIntercept", 0))
    )
    if slope == 0 or not math.isfinite(slope + intercept):
        raise Damaged(f"its values are rescaled by the slope {slope:g} and {intercept:g}")
    return slope, intercept
