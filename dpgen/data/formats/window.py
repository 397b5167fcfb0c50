"""Converts grey values of more than 8 bits to pixels by a declared window, never by the data."""

from __future__ import annotations

import numpy as np

from dpgen.data.formats.refusals import SetRefused

ValueRange = tuple[float, float] | None


def windowed(values: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Returns grey values as uint8, same shape: u = round((v - low) / (high - low) * 255), black or
    white outside the window, as in radiology.

    Args:
        values: whole numbers or finite floats, any shape.
        window: (low, high), the values of black and white.
    """
    low, high = window
    inside = np.clip(values.astype(np.float64), low, high)
    return np.rint((inside - low) / (high - low) * 255).astype(np.uint8)


def declared(value_range: ValueRange, name: str, what: str) -> tuple[float, float]:
    """Returns the declared window. Raises SetRefused if there is none, because a rescale by the
    values of the data would publish them.

    Args:
        value_range: the declared window, or None.
        name: the picture's name in an error message.
        what: its pixels in words, as "16 bits per pixel".
    """
    if value_range is None:
        raise SetRefused(
            f"{name} has {what}, records have 8 bits: say which values are black and white with "
            "--value-range LOW,HIGH"
        )
    return value_range


def refuse_window(value_range: ValueRange, name: str) -> None:
    """Refuses a declared window for a picture of 8 bits, because it would change the picture."""
    if value_range is not None:
        raise SetRefused(
            f"value_range is for float arrays and for grey pictures of more than 8 bits, {name} "
            "has 8: drop --value-range"
        )
