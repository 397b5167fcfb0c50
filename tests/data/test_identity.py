"""Fingerprints and marks: what makes two records one, and two data sets one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpgen.data.formats.pictures import fit_picture
from dpgen.data.identity import (
    fingerprint,
    identify,
    installation_key,
    known_ledgers,
    marks_learned,
    overlap,
)
from dpgen.privacy.ledger.chain import LedgerError

KEY = bytes(range(32))


class Raw:
    """Decoded records: all that is looked at of a source."""

    def __init__(self, pixels: Sequence[np.ndarray], labels: Sequence[int] | None = None) -> None:
        self.pixels, self.labels = list(pixels), labels or [0] * len(pixels)
        self.shape = (1, 5, 4)

    def raw_records(self) -> Iterator[tuple[np.ndarray, int]]:
        yield from zip(self.pixels, self.labels, strict=True)


def source(pixels: Sequence[np.ndarray], labels: Sequence[int] | None = None) -> Any:  # noqa: ANN401
    return Raw(pixels, labels)


def images(n: int = 12, depth: int = 1, seed: int = 0) -> list[np.ndarray]:
    shape = (n, 5, 4, depth)
    return list(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def marks(pixels: Sequence[np.ndarray], labels: Sequence[int] | None = None) -> np.ndarray:
    return identify(source(pixels, labels), KEY).marks


def test_marks_are_distinct_rising_and_of_the_pixels_alone() -> None:
    found = marks(images())
    assert found.dtype == np.uint64 and len(found) == 12
    assert (np.diff(found.astype(object)) > 0).all()
    assert np.array_equal(marks(images()[::-1], [3] * 12), found)
    assert np.array_equal(marks([*images(), images()[4]]), found)
    assert not np.isin(identify(source(images()), bytes(32)).marks, found).any()


def test_the_fingerprint_is_the_one_from_before_there_were_marks() -> None:
    """Ledgers are found by it."""
    whole = fingerprint(source(images(3), [1, 0, 2]), KEY)
    assert whole == "af41d56ce421114f6a33c9b1c8e662b9e06a59172ad638d296b0b6046d4fe20b"


def test_grey_stored_as_rgb_is_grey_and_a_tint_is_not() -> None:
    grey = images()
    assert np.array_equal(marks([np.repeat(x, 3, 2) for x in grey]), marks(grey))
    tinted = [np.repeat(x, 3, 2) for x in grey]
    tinted[0][0, 0, 2] ^= 1
    assert np.isin(marks(tinted), marks(grey)).sum() == 11
    assert len(marks(images(depth=3))) == 12


def test_the_shape_belongs_to_the_mark() -> None:
    assert not np.isin(marks([x.transpose(1, 0, 2) for x in images()]), marks(images())).any()
    turned = [x.reshape(4, 5, 1) for x in images()]
    assert not np.isin(marks(turned), marks(images())).any()


@pytest.mark.parametrize("depth", [1, 3])
def test_an_image_of_one_colour_has_no_mark_and_any_other_has_one(depth: int) -> None:
    """A blank page is in everybody's data."""
    blank = np.full((5, 4, depth), 7, np.uint8)
    blank[..., depth - 1] = 9
    assert len(marks([blank, np.zeros_like(blank), np.full_like(blank, 255)])) == 0
    for place in ((0, 0), (4, 3)):
        dotted = blank.copy()
        dotted[place] ^= 1
        assert len(marks([dotted])) == 1


def test_one_flipped_bit_is_another_image() -> None:
    changed = images()
    changed[5][2, 1, 0] ^= 1
    assert np.isin(marks(changed), marks(images())).sum() == 11


def test_two_sources_are_compared_without_a_trace(home: Path) -> None:
    """Public start data against private records, say; grey on one side, RGB on the other."""
    one = images(12)
    other = [np.repeat(x, 3, 2) for x in [*images(12)[9:], *images(5, seed=1)]]
    assert overlap(source(one), source(other)) == 3
    assert overlap(source(one), source(images(5, seed=1))) == 0
    assert overlap(source([]), source(one)) == 0
    assert not home.exists()


def test_images_are_compared_as_they_are_learned_from_too() -> None:
    """A picture that a resize makes a record of, exactly, is that record, and counted once."""
    wide = list(np.random.default_rng(2).integers(0, 256, (12, 6, 8, 3), dtype=np.uint8))
    small = [fit_picture(x, 4, 1) for x in wide]
    one, other = source(wide), source([*small[9:], *wide[:2], *small[:1]])
    assert overlap(one, other) == 2, "the decoded ones: none is resized"
    one.shape = (1, 4, 4)
    assert overlap(one, other) == 6, "decoded ones and those that are learned from"
    other.shape = one.shape
    assert overlap(one, other) == 6
    assert overlap(source(small), source(wide)) == 0
    padded = [np.pad(x, ((0, 0), (2, 2), (0, 0))) for x in small]
    assert overlap(one, source(padded)) == 0 and overlap(source(padded), one) == 0
    cropped = source(padded)
    cropped.shape = one.shape
    assert overlap(one, cropped) == overlap(cropped, one) == 12
    assert set(marks(small)) < set(marks_learned(cropped, KEY)) and len(marks(padded)) == 12


def test_a_key_that_is_gone_is_not_drawn_anew_while_there_are_ledgers(home: Path) -> None:
    assert known_ledgers().all() == [] and not home.exists()
    installation_key()
    name = known_ledgers().key
    assert len(name) == 16 and name not in (home / "key").read_bytes().hex()
    (home / "ledgers").mkdir()
    (home / "ledgers" / "a.jsonl").write_text("x")
    assert known_ledgers().key == name
    (home / "key").unlink()
    with pytest.raises(LedgerError, match="is missing.* restore it from a backup"):
        installation_key()
